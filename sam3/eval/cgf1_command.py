"""``sam3 eval cgf1`` and ``scripts/eval/standalone_cgf1.py``: cgF1 of one prediction file."""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from sam3.arguments import CommandParser
from sam3.data.instance_table import IOU_TYPES
from sam3.errors import UserError
from sam3.eval.cgf1 import SCORE_THRESHOLD
from sam3.eval.cgf1_files import Evaluation, evaluate_files
from sam3.io.files import write_json

DESCRIPTION = """\
cgF1 of predictions on (image, phrase) pairs; prints the numbers as JSON.

  %(prog)s --pred_file coco_predictions_segm.json --gt_files gold_crowded_merged_{a,b,c}_release_test.json

With several annotators each pair is judged by the one that is kindest to it.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see :data:`DESCRIPTION`.

    Raises:
        UserError: a file cannot be used.
    """
    arguments = _parse_arguments(argv)
    if (arguments.compare or arguments.images) and not arguments.report:
        raise UserError("--compare and --images are shown in the report; name its file with --report")
    logging.basicConfig(format="%(levelname)s: %(message)s")
    for note in annotator_notes(arguments.gt_files):
        print(note, file=sys.stderr)
    evaluation = evaluate_files(
        arguments.pred_file,
        arguments.gt_files,
        arguments.iou_type,
        score_threshold=arguments.score_threshold,
        workers=arguments.workers,
    )
    print(summary(evaluation), file=sys.stderr)
    numbers = evaluation.cgf1.to_dict()
    print(json.dumps(numbers, indent=2))
    if arguments.output:
        write_json(arguments.output, numbers, indent=2)
    if arguments.report:
        write_report(
            arguments.report,
            [
                {
                    "name": Path(arguments.pred_file).stem,
                    "pred_file": arguments.pred_file,
                    "gt_files": arguments.gt_files,
                    "other_pred_file": arguments.compare,
                    "image_folder": arguments.images,
                }
            ],
            arguments.iou_type,
        )
    return 0


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser("eval cgf1", description=DESCRIPTION)
    parser.add_argument("--pred_file", required=True, metavar="FILE", help="list of COCO result records")
    parser.add_argument(
        "--gt_files", required=True, nargs="+", metavar="FILE", help="ground truth, one file per annotator"
    )
    add_common_arguments(parser)
    parser.add_argument(
        "--score_threshold",
        type=float,
        default=SCORE_THRESHOLD,
        metavar="X",
        help=f"predictions below it do not exist ({SCORE_THRESHOLD:g}, that of all published numbers)",
    )
    parser.add_argument("--compare", metavar="FILE", help="a second prediction file, compared in the report")
    parser.add_argument("--images", metavar="DIR", help="folder of the pictures, to show the worst in the report")
    return parser.parse_args(argv)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command that computes cgF1 understands."""
    parser.add_argument("--iou_type", choices=IOU_TYPES, default="segm", help="compare masks or boxes (segm)")
    parser.add_argument(
        "--workers", type=_positive, default=1, metavar="N", help="processes; the numbers stay the same (1)"
    )
    parser.add_argument("--output", metavar="FILE", help="also write the numbers as JSON")
    parser.add_argument("--report", metavar="FILE", help="also write an HTML page that says where the score was lost")


def write_report(path: str, subsets: Sequence[Mapping[str, Any]], iou_type: str) -> None:
    """The page of :mod:`sam3.report.evaluation_report`, which stands above this package and is loaded by name."""
    import_module("sam3.report.evaluation_report").write_report_of(path, subsets, iou_type)
    print(f"report: {path}", file=sys.stderr)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def annotator_notes(gt_files: Sequence[str]) -> list[str]:
    """What is probably not meant about the choice of ground truth files."""
    is_gold = any(Path(file).name.startswith("gold_") for file in gt_files)
    if is_gold and len(gt_files) != 3:
        return [f"note: SA-Co/Gold has three annotators per subset, {len(gt_files)} given; published numbers use all"]
    return []


def summary(evaluation: Evaluation) -> str:
    """One line: how many pairs, and how they came out."""
    totals = evaluation.cgf1.totals
    outcomes = ", ".join(f"{count:,} {outcome.value}" for outcome, count in totals.outcomes.items())
    ignored = evaluation.num_ignored_pairs
    also = f"; predictions on {ignored:,} other pairs are ignored" if ignored else ""
    return f"{totals.num_pairs:,} pairs evaluated: {outcomes}{also}"
