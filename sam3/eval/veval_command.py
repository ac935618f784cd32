"""``sam3 eval veval`` and ``scripts/eval/veval/eval_veval.py``: all video metrics of one prediction file or of all."""

import sys
from collections.abc import Sequence
from pathlib import Path

from sam3.arguments import CommandParser, Subcommand, pick_subcommand, subcommand_usage
from sam3.errors import DataError, UserError
from sam3.eval.veval import VevalResult, evaluate_files
from sam3.eval.video_command import add_report_arguments, described, require_report, write_report

SETS = tuple(f"saco_veval_{domain}_{split}" for domain in ("sav", "yt1b", "smartglasses") for split in ("val", "test"))
HEADLINES = {"cgF1": "video_mask_demo_cgf1_micro_50_95", "pHOTA": "video_mask_all_phrase_HOTA"}

MODES = {
    "one": Subcommand(__name__, "one ground truth file, one prediction file", "one"),
    "all": Subcommand(__name__, "the six sets of SA-Co/VEval", "every"),
}
DESCRIPTION_ONE = """\
All video metrics of one prediction file: mAP, phrase AP, TETA, pHOTA, cgF1; writes them as JSON.

  %(prog)s --gt_annot_file saco_veval_sav_val.json --pred_file saco_veval_sav_val_preds.json \\
      --eval_res_file saco_veval_sav_val_eval_res.json
"""
DESCRIPTION_ALL = """\
All video metrics of the sets of SA-Co/VEval: for each <set>

  GT_ANNOT_DIR/<set>.json and PRED_DIR/<set>_preds.json (or <set>.json) -> EVAL_RES_DIR/<set>_eval_res.json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the two modes.

    Raises:
        UserError: unknown mode, or a file cannot be used.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print(usage())
        sys.exit(0)
    pick_subcommand(name, MODES)
    return one(arguments[1:]) if name == "one" else every(arguments[1:])


def usage() -> str:
    """The text of ``--help``."""
    return subcommand_usage(
        "eval_veval.py MODE [arguments]   (or: sam3 eval veval MODE [arguments])",
        "MODE",
        "All video metrics of SA-Co/VEval from files; needs no network and no GPU.",
        MODES,
    )


def one(argv: Sequence[str] | None = None) -> int:
    """Evaluate one prediction file."""
    parser = CommandParser("eval veval one", description=DESCRIPTION_ONE)
    parser.add_argument("--gt_annot_file", required=True, metavar="FILE", help="ground truth of the set")
    parser.add_argument("--pred_file", required=True, metavar="FILE", help="list of masklets")
    parser.add_argument("--eval_res_file", required=True, metavar="FILE", help="result, written whole")
    add_report_arguments(parser)
    arguments = parser.parse_args(argv)
    require_report(arguments)
    result = evaluate_files(
        arguments.gt_annot_file, arguments.pred_file, arguments.eval_res_file, progress=sys.stderr.isatty()
    )
    if result.cgf1.kinds is None:
        print(f"note: {arguments.gt_annot_file} has no video_np_pairs, so there is no cgF1", file=sys.stderr)
    print(headline(Path(arguments.gt_annot_file).stem, result))
    print(f"{len(result.to_dict()['dataset_results'])} numbers, {len(result.pairs)} pairs: {arguments.eval_res_file}")
    if arguments.report:
        write_report(arguments.report, [described(arguments)])
    return 0


def every(argv: Sequence[str] | None = None) -> int:
    """Evaluate the sets of SA-Co/VEval."""
    parser = CommandParser("eval veval all", description=DESCRIPTION_ALL)
    parser.add_argument("--gt_annot_dir", required=True, metavar="DIR", help="ground truth files")
    parser.add_argument("--pred_dir", required=True, metavar="DIR", help="prediction files")
    parser.add_argument("--eval_res_dir", required=True, metavar="DIR", help="result files")
    parser.add_argument(
        "--subset", nargs="+", choices=SETS, default=SETS, metavar="SET", help=f"some of: {', '.join(SETS)} (all)"
    )
    parser.add_argument("--report", metavar="FILE", help="also write an HTML page that says where pHOTA was lost")
    parser.add_argument("--compare_dir", metavar="DIR", help="predictions of another model, compared in the report")
    arguments = parser.parse_args(argv)
    if arguments.compare_dir and not arguments.report:
        raise UserError("--compare_dir is shown in the report; name its file with --report")
    sets = _require_files(arguments.subset, arguments.gt_annot_dir, arguments.pred_dir)
    others = [{} for _ in sets]
    if arguments.compare_dir:
        found = _require_files(arguments.subset, arguments.gt_annot_dir, arguments.compare_dir)
        others = [{"other_pred_file": predictions} for _, _, predictions in found]
    for name, truth, predictions in sets:
        target = Path(arguments.eval_res_dir) / f"{name}_eval_res.json"
        print(headline(name, evaluate_files(truth, predictions, target, progress=sys.stderr.isatty())), flush=True)
    if arguments.report:
        names = ("name", "gt_file", "pred_file")
        subsets = [dict(zip(names, files, strict=True)) | other for files, other in zip(sets, others, strict=True)]
        write_report(arguments.report, subsets)
    return 0


def headline(name: str, result: VevalResult) -> str:
    """The two published numbers of a set, times 100, one decimal."""
    numbers = result.to_dict()["dataset_results"]
    shown = (
        f"{title} {100 * numbers[key]:.1f}" if key in numbers else f"{title} -" for title, key in HEADLINES.items()
    )
    return f"{name}: {', '.join(shown)}"


def _require_files(chosen: Sequence[str], gt_dir: str, pred_dir: str) -> list[tuple[str, Path, Path]]:
    """Name, ground truth and predictions of each set that was asked for."""
    found, missing = [], []
    for name in SETS:
        if name not in chosen:
            continue
        truth = Path(gt_dir) / f"{name}.json"
        choices = [Path(pred_dir) / file for file in (f"{name}_preds.json", f"{name}.json")]
        predictions = next((path for path in choices if path.is_file()), choices[0])
        missing += [str(path) for path in (truth, predictions) if not path.is_file()]
        found.append((name, truth, predictions))
    if missing:
        some = "; choose the sets that you have with --subset" if len(missing) < 2 * len(found) else ""
        raise DataError(f"{len(missing)} of {2 * len(found)} files are missing (first: {missing[0]}){some}")
    return found
