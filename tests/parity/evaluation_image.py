"""Image cgF1 against the fixtures of a folder: every case folder under ``image/`` and ``image/edge_cases.json``.

Case folders hold ``gt_<letter>.json``, ``pred.json`` and ``expected.json``; their names, number and sizes are free.
Where the reference stops, an error of ours is wanted.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam3.data.instance_table import IOU_TYPES
from sam3.errors import UserError
from sam3.eval.cgf1 import Outcome, PairResult
from sam3.eval.cgf1_files import Evaluation, evaluate_files
from sam3.io.files import read_json
from tests.parity.report import Row, difference, rows_or_miss

LIMIT = 1e-9
COUNTS = {"TPs": "true_positives", "FPs": "false_positives", "FNs": "false_negatives", "local_F1s": "local_f1"}


def check(directory: Path) -> list[Row]:
    """The rows of all image fixtures found below ``directory``."""
    folder, rows = directory / "image", []
    with tempfile.TemporaryDirectory() as scratch:
        for case in sorted(path.parent for path in folder.glob("*/expected.json")):
            rows += rows_or_miss(f"image/{case.name}", lambda case=case: _folder(case, Path(scratch)))
        if (folder / "edge_cases.json").exists():
            for case in read_json(folder / "edge_cases.json"):
                name = f"image edge case {case.get('name')}"
                rows += rows_or_miss(name, lambda case=case, name=name: _edge_case(name, case, Path(scratch)))
    return rows


def _folder(case: Path, scratch: Path) -> Iterator[Row]:
    truths = [read_json(path) for path in sorted(case.glob("gt_*.json"))]
    predictions, expected = read_json(case / "pred.json"), read_json(case / "expected.json")
    yield from _compare(f"image/{case.name}", truths, predictions, expected, scratch)


def _edge_case(name: str, case: Mapping[str, Any], scratch: Path) -> Iterator[Row]:
    yield from _compare(name, case["gts"], case["preds"], case["expected"], scratch)


def _compare(
    name: str, truths: Sequence[Any], predictions: Any, expected: Mapping[str, Any], scratch: Path
) -> Iterator[Row]:
    """Through files, as users have them."""
    gt_files = [scratch / f"gt_{number}.json" for number in range(len(truths))]
    for path, content in zip([*gt_files, scratch / "pred.json"], [*truths, predictions], strict=True):
        path.write_text(json.dumps(content), encoding="utf-8")
    for iou_type in IOU_TYPES:
        if iou_type in expected:
            wanted = expected[iou_type]
            if "raises" in wanted:
                yield Row(f"{name}, {iou_type}: refused", _not_refused(scratch / "pred.json", gt_files, iou_type), 0)
            else:
                found = evaluate_files(scratch / "pred.json", gt_files, iou_type, keep_pairs=True)
                yield from _rows(f"{name}, {iou_type}", found, wanted)


def _not_refused(pred_file: Path, gt_files: Sequence[Path], iou_type: str) -> float:
    try:
        evaluate_files(pred_file, gt_files, iou_type)
    except UserError:
        return 0
    return 1


def _rows(name: str, found: Evaluation, expected: Mapping[str, Any]) -> Iterator[Row]:
    numbers = found.cgf1.to_dict()
    yield Row(f"{name}: keys and their order", float(list(numbers) != list(expected["metrics"])), 0)
    yield Row(
        f"{name}: numbers", max(difference(numbers[key], value) for key, value in expected["metrics"].items()), LIMIT
    )
    if "totals" in expected:
        yield Row(f"{name}: totals", _totals_error(found, expected["totals"]), 0)
    if "per_pair" in expected:
        pairs = expected["per_pair"]
        same = [result.pair_id for result in found.pairs] == [pair["image_id"] for pair in pairs]
        yield Row(f"{name}: pairs", float(not same), 0)
        errors = (_pair_error(result, pair) for result, pair in zip(found.pairs, pairs, strict=True))
        yield Row(f"{name}: results of each pair", max(errors, default=0), LIMIT)


def _totals_error(found: Evaluation, expected: Mapping[str, Any]) -> float:
    totals = found.cgf1.totals
    named = {
        "TPs": totals.true_positives,
        "FPs": totals.false_positives,
        "positive_micro_FPs": totals.positive_false_positives,
        "FNs": totals.false_negatives,
    }
    return max(difference(named[key].tolist(), value) for key, value in expected.items())


def _pair_error(result: PairResult, expected: Mapping[str, Any]) -> float:
    """Largest difference; infinite where an outcome or the annotator that counts differs."""
    judged = result.judgement
    if (result.annotator, judged.outcome.value) != (expected["annotator"], expected["outcome"]):
        return math.inf
    errors = [difference(judged.num_predictions, expected["num_dt"])]
    errors.append(difference(list(result.mean_local_f1s), expected["all_mean_local_F1"]))
    for key, name in COUNTS.items():
        values = None if judged.outcome is Outcome.TN else getattr(judged, name)().tolist()
        errors.append(difference(values, expected[key]))
    return max(errors)
