"""``sam3 eval phota`` and ``sam3 eval teta``: one metric of masklets in videos, with its settings."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from sam3.arguments import CommandParser
from sam3.data.saco_video import read_ground_truth
from sam3.errors import UserError
from sam3.eval import phota as hota
from sam3.eval import teta
from sam3.eval.masklet_file import read_masklets
from sam3.eval.video_pairs import KINDS, Kind, VideoData
from sam3.io.files import write_json

PHOTA_DESCRIPTION = """\
pHOTA of masklets; prints the numbers as JSON.

  %(prog)s --gt_annot_file saco_veval_sav_val.json --pred_file saco_veval_sav_val_preds.json
"""
TETA_DESCRIPTION = """\
TETA of masklets, in percent; prints the numbers as JSON.

  %(prog)s --gt_annot_file saco_veval_sav_val.json --pred_file saco_veval_sav_val_preds.json
"""
UNITS = {
    "phrase": "every (video, phrase) pair by itself: pHOTA",
    "video": "all phrases of a video in one class, after suppression of repeated tracks",
    "class": "each phrase over all videos, then the mean over phrases",
}


def phota_main(argv: Sequence[str] | None = None) -> int:
    """Run ``sam3 eval phota``.

    Raises:
        UserError: a file cannot be used.
    """
    parser = _parser("eval phota", PHOTA_DESCRIPTION)
    _add_iou_type(parser, [*KINDS, "both"], "both")
    parser.add_argument(
        "--prob_thresh", type=float, default=hota.SCORE_THRESHOLD, metavar="X", help="keep scores above it (0.5)"
    )
    parser.add_argument(
        "--unit",
        choices=UNITS,
        default="phrase",
        help="; ".join(f"{name}: {text}" for name, text in UNITS.items()) + " (phrase)",
    )
    add_report_arguments(parser)
    arguments = parser.parse_args(argv)
    if arguments.report and arguments.unit != "phrase":
        raise UserError("--report explains pHOTA of pairs; it needs --unit phrase")
    require_report(arguments)
    kinds = KINDS if arguments.iou_type == "both" else (arguments.iou_type,)
    metric = {"phrase": hota.phota, "video": hota.class_agnostic_hota, "class": hota.class_hota}[arguments.unit]
    result = metric(_read(arguments), kinds, score_threshold=arguments.prob_thresh)
    _hand_out(result.to_dict(unit="class" if arguments.unit == "class" else "phrase"), arguments.output)
    if arguments.report:
        kind = "bbox" if arguments.iou_type == "bbox" else "segm"
        write_report(arguments.report, [described(arguments)], kind, arguments.prob_thresh)
    return 0


def teta_main(argv: Sequence[str] | None = None) -> int:
    """Run ``sam3 eval teta``.

    Raises:
        UserError: a file cannot be used.
    """
    parser = _parser("eval teta", TETA_DESCRIPTION)
    _add_iou_type(parser, KINDS, "segm")
    parser.add_argument(
        "--prob_thresh", type=float, default=teta.SCORE_THRESHOLD, metavar="X", help="keep scores from it on (0.5)"
    )
    parser.add_argument(
        "--nms_strategy",
        choices=("none", "track", "frame"),
        default="none",
        help="suppress repeated tracks or boxes (none)",
    )
    parser.add_argument(
        "--nms_threshold", type=float, default=teta.NMS_THRESHOLD, metavar="X", help="their overlap (0.5)"
    )
    parser.add_argument(
        "--not_exhaustive",
        action="store_true",
        help="judge only predictions that overlap annotated objects (TAO's rule)",
    )
    arguments = parser.parse_args(argv)
    result = teta.teta(
        _read(arguments),
        arguments.iou_type,
        score_threshold=arguments.prob_thresh,
        exhaustive=not arguments.not_exhaustive,
        nms=arguments.nms_strategy,
        nms_threshold=arguments.nms_threshold,
    )
    return _hand_out(result.to_dict(arguments.iou_type), arguments.output)


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command that explains pHOTA understands."""
    parser.add_argument("--report", metavar="FILE", help="also write an HTML page that says where pHOTA was lost")
    parser.add_argument("--compare", metavar="FILE", help="a second prediction file, compared in the report")
    parser.add_argument("--frames", metavar="DIR", help="folder of the videos' frames, to show the worst in the report")


def require_report(arguments: argparse.Namespace) -> None:
    """What only the report shows needs one."""
    if (arguments.compare or arguments.frames) and not arguments.report:
        raise UserError("--compare and --frames are shown in the report; name its file with --report")


def described(arguments: argparse.Namespace) -> dict[str, Any]:
    """The one prediction file of a command, for :func:`write_report`."""
    optional = {"other_pred_file": arguments.compare, "frame_folder": arguments.frames}
    return {
        "name": Path(arguments.pred_file).stem,
        "pred_file": Path(arguments.pred_file),
        "gt_file": Path(arguments.gt_annot_file),
        **{name: Path(value) for name, value in optional.items() if value},
    }


def write_report(
    path: str, subsets: Sequence[Mapping[str, Any]], kind: Kind = "segm", score_threshold: float = hota.SCORE_THRESHOLD
) -> None:
    """The page of :mod:`sam3.report.video_report`, which stands above this package and is loaded by name."""
    import_module("sam3.report.video_report").write_report_of(path, subsets, kind, score_threshold)
    print(f"report: {path}", file=sys.stderr)


def _parser(name: str, description: str) -> CommandParser:
    parser = CommandParser(name, description=description)
    parser.add_argument("--gt_annot_file", required=True, metavar="FILE", help="ground truth of SA-Co/VEval")
    parser.add_argument("--pred_file", required=True, metavar="FILE", help="list of masklets")
    parser.add_argument("--output", metavar="FILE", help="also write the numbers as JSON")
    return parser


def _add_iou_type(parser: argparse.ArgumentParser, choices: Sequence[str], default: str) -> None:
    parser.add_argument("--iou_type", choices=choices, default=default, help=f"compare masks or boxes ({default})")


def _read(arguments: argparse.Namespace) -> VideoData:
    truth = read_ground_truth(arguments.gt_annot_file)
    data = VideoData(truth, read_masklets(arguments.pred_file, truth))
    counts = len(truth.videos), len(truth.masklets), len(data.predictions)
    print("{:,} videos, {:,} annotated and {:,} predicted masklets".format(*counts), file=sys.stderr)
    return data


def _hand_out(numbers: Mapping[str, float], output: str | Path | None) -> int:
    print(json.dumps(numbers, indent=2))
    if output:
        write_json(output, numbers, indent=2)
    return 0
