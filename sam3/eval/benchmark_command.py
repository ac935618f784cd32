"""``sam3 eval gold`` and ``sam3 eval silver``: cgF1 on all subsets of SA-Co/Gold or SA-Co/Silver."""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sam3.arguments import CommandParser
from sam3.errors import DataError, UserError
from sam3.eval.cgf1 import Cgf1
from sam3.eval.cgf1_command import add_common_arguments, write_report
from sam3.eval.cgf1_files import evaluate_files
from sam3.io.files import write_json

DESCRIPTION = """\
cgF1 on the subsets of SA-Co/{title}; prints one line per subset: cgF1 * 100, IL_MCC, pmF1 * 100.

  %(prog)s --gt-folder annotations/ --pred-folder predictions/

Predictions lie in PRED_FOLDER/{name}_<subset>/dumps/{name}_<subset>/coco_predictions_segm.json; that is where
running the configuration data=saco_{name} leaves them.
"""


@dataclass(frozen=True)
class Subset:
    """One part of a benchmark."""

    name: str  # of the prediction folder, without the benchmark's prefix
    truth: tuple[str, ...]  # names of the ground truth files, one per annotator
    other_name: str | None = None  # under which runs are known, too


@dataclass(frozen=True)
class Benchmark:
    """A published set of subsets."""

    name: str
    title: str
    subsets: tuple[Subset, ...]

    def prediction_file(self, folder: Path, subset: Subset) -> Path:
        """Where a run on the subset leaves its predictions; the first place where there are any."""
        runs = [f"{self.name}_{name}" for name in (subset.name, subset.other_name) if name]
        places = [folder / run / "dumps" / run / "coco_predictions_segm.json" for run in runs]
        return next((path for path in places if path.is_file()), places[0])


def _gold_subset(name: str, folder: str | None = None, other_name: str | None = None) -> Subset:
    truth = tuple(f"gold_{name}_merged_{letter}_release_test.json" for letter in "abc")
    return Subset(folder or name, truth, other_name)


def _silver_subset(name: str, other_name: str | None = None) -> Subset:
    return Subset(name, (f"silver_{name}_merged_test.json",), other_name)


GOLD = Benchmark(
    "gold",
    "Gold",
    (
        _gold_subset("metaclip", "metaclip_nps"),
        _gold_subset("sa1b", "sa1b_nps"),
        _gold_subset("crowded"),
        _gold_subset("fg_food"),
        _gold_subset("fg_sports_equipment", other_name="fg_sports"),
        _gold_subset("attributes"),
        _gold_subset("wiki_common"),
    ),
)
SILVER = Benchmark(
    "silver",
    "Silver",
    (
        *map(_silver_subset, ("bdd100k", "droid", "ego4d", "food_rec", "geode", "inaturalist")),
        _silver_subset("nga_art", other_name="nga"),
        *map(_silver_subset, ("sav", "yt1b")),
        Subset("fathomnet", ("silver_fathomnet_test.json",)),
    ),
)


def gold(argv: Sequence[str] | None = None) -> int:
    """``sam3 eval gold`` and ``scripts/eval/gold/eval_sam3.py``."""
    return _run(GOLD, argv)


def silver(argv: Sequence[str] | None = None) -> int:
    """``sam3 eval silver`` and ``scripts/eval/silver/eval_silver.py``."""
    return _run(SILVER, argv)


def _run(benchmark: Benchmark, argv: Sequence[str] | None) -> int:
    arguments = _parse_arguments(benchmark, argv)
    if arguments.compare_folder and not arguments.report:
        raise UserError("--compare-folder is shown in the report; name its file with --report")
    logging.basicConfig(format="%(levelname)s: %(message)s")
    chosen = [subset for subset in benchmark.subsets if subset.name in arguments.subset]
    folders = Path(arguments.gt_folder), Path(arguments.pred_folder)
    _require_files(benchmark, chosen, *folders)
    results = {}
    for subset in tqdm(chosen, desc=benchmark.title, unit="subset", disable=None, file=sys.stderr):
        results[subset.name] = _evaluate(benchmark, subset, folders, arguments)
        tqdm.write(f"{subset.name}: {headline(results[subset.name])}")
    if len(results) > 1:
        print(f"average: {average(list(results.values()))}")
    if arguments.output:
        write_json(arguments.output, {name: result.to_dict() for name, result in results.items()}, indent=2)
    if arguments.report:
        subsets = [_described(benchmark, subset, folders, arguments.compare_folder) for subset in chosen]
        write_report(arguments.report, subsets, arguments.iou_type)
    return 0


def _described(
    benchmark: Benchmark, subset: Subset, folders: tuple[Path, Path], other_folder: str | None
) -> dict[str, Any]:
    gt_folder, pred_folder = folders
    return {
        "name": subset.name,
        "pred_file": benchmark.prediction_file(pred_folder, subset),
        "gt_files": [gt_folder / name for name in subset.truth],
        "other_pred_file": None if other_folder is None else benchmark.prediction_file(Path(other_folder), subset),
    }


def _evaluate(benchmark: Benchmark, subset: Subset, folders: tuple[Path, Path], arguments: argparse.Namespace) -> Cgf1:
    gt_folder, pred_folder = folders
    return evaluate_files(
        benchmark.prediction_file(pred_folder, subset),
        [gt_folder / name for name in subset.truth],
        arguments.iou_type,
        workers=arguments.workers,
    ).cgf1


def _parse_arguments(benchmark: Benchmark, argv: Sequence[str] | None) -> argparse.Namespace:
    description = DESCRIPTION.format(title=benchmark.title, name=benchmark.name)
    parser = CommandParser(f"eval {benchmark.name}", description=description)
    parser.add_argument("-g", "--gt-folder", required=True, metavar="DIR", help="folder of the ground truth files")
    parser.add_argument("-p", "--pred-folder", required=True, metavar="DIR", help="folder of the runs")
    names = [subset.name for subset in benchmark.subsets]
    parser.add_argument(
        "--subset", nargs="+", choices=names, default=names, metavar="NAME", help=f"some of: {', '.join(names)} (all)"
    )
    add_common_arguments(parser)
    parser.add_argument("--compare-folder", metavar="DIR", help="runs of another model, compared in the report")
    return parser.parse_args(argv)


def _require_files(benchmark: Benchmark, subsets: Sequence[Subset], gt_folder: Path, pred_folder: Path) -> None:
    needed = [gt_folder / name for subset in subsets for name in subset.truth]
    needed += [benchmark.prediction_file(pred_folder, subset) for subset in subsets]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        some = "; choose the subsets that you have with --subset" if len(missing) < len(needed) else ""
        raise DataError(f"{len(missing)} of {len(needed)} files are missing (first: {missing[0]}){some}")


def headline(result: Cgf1) -> str:
    """``cgF1 * 100,IL_MCC,pmF1 * 100`` with two decimals."""
    return _headline(_three(result))


def average(results: Sequence[Cgf1]) -> str:
    """The same of the plain mean over subsets."""
    return _headline(np.mean([_three(result) for result in results], axis=0))


def _three(result: Cgf1) -> tuple[float, float, float]:
    return float(np.mean(result.cgf1)), result.il_mcc, float(np.mean(result.positive_micro_f1))


def _headline(three: Sequence[float]) -> str:
    cgf1, mcc, positive_micro_f1 = three
    return f"{100 * cgf1:.2f},{mcc:.2f},{100 * positive_micro_f1:.2f}"
