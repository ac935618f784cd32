"""COCO AP, by both engines, and re-indexing against the fixtures below ``coco/`` of a folder.

Where the reference stops on an empty prediction list, the numbers of "nothing predicted" are wanted; where it stops on
an unknown image, an error of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam3.errors import UserError
from sam3.eval.coco_ap import ENGINES, coco_ap
from sam3.eval.coco_reindex import reindexed
from sam3.io.files import read_json
from tests.parity.report import Row, difference, rows_or_miss

LIMIT = 1e-9


def check(directory: Path) -> list[Row]:
    """The rows of all COCO fixtures found below ``directory``."""
    folder, rows = directory / "coco", []
    if (folder / "expected.json").exists():
        rows += rows_or_miss("coco", lambda: _variants(folder))
    if (folder / "corner_cases.json").exists():
        for case in read_json(folder / "corner_cases.json"):
            rows += rows_or_miss(f"coco corner case {case.get('name')}", lambda case=case: _corner_case(case))
    if (folder / "reindex.json").exists():
        rows += rows_or_miss("coco reindex", lambda: _reindex(read_json(folder / "reindex.json")))
    return rows


def _variants(folder: Path) -> Iterator[Row]:
    """``<iou type>[_positive_split][_only_box_predictions or _only_mask_predictions]``."""
    truth, predictions = read_json(folder / "gt.json"), read_json(folder / "pred.json")
    for name, expected in read_json(folder / "expected.json").items():
        left_out = {"_only_box_predictions": "segmentation", "_only_mask_predictions": "bbox"}
        dropped = [field for suffix, field in left_out.items() if name.endswith(suffix)]
        records = [{key: value for key, value in record.items() if key not in dropped} for record in predictions]
        yield from _rows(f"coco {name}", truth, records, expected, positive_split="positive_split" in name)


def _corner_case(case: Mapping[str, Any]) -> Iterator[Row]:
    name, settings = f"coco corner case {case['name']}", dict(case.get("kwargs", {}))
    iou_type = settings.pop("iou_type", "bbox")
    expected = case["expected"]
    if "raises" in expected and case["preds"]:
        for engine in ENGINES:
            refused = _is_refused(case["gt"], case["preds"], iou_type, engine=engine, **settings)
            yield Row(f"{name}: refused, {engine}", float(not refused), 0)
        return
    if "raises" in expected:
        expected = {key: None for key in coco_ap(case["gt"], [], iou_type).to_dict()}
    yield from _rows(name, case["gt"], case["preds"], expected, iou_type=iou_type, **settings)


def _is_refused(*arguments: Any, **settings: Any) -> bool:
    try:
        coco_ap(*arguments, **settings)
    except UserError:
        return True
    return False


def _rows(
    name: str,
    truth: Any,
    predictions: Sequence[Any],
    expected: Mapping[str, float | None],
    *,
    iou_type: str | None = None,
    **settings: Any,
) -> Iterator[Row]:
    """``None``: what a metric of nothing predicted is, 0 where there is something to find and -1 where not."""
    iou_type = iou_type or next(iter(expected)).split("_")[2]
    for engine in ENGINES:
        found = coco_ap(truth, predictions, iou_type, engine=engine, **settings).to_dict()
        yield Row(f"{name}: keys and their order, {engine}", float(list(found) != list(expected)), 0)
        errors = [
            min(abs(found[key]), abs(found[key] + 1)) if value is None else difference(found[key], value)
            for key, value in expected.items()
        ]
        yield Row(f"{name}: numbers, {engine}", max(errors), LIMIT)


def _reindex(case: Mapping[str, Any]) -> Iterator[Row]:
    output = reindexed(case["input"])
    yield Row("coco reindex: output", float(output != case["output"]), 0)
    for iou_type, expected in case.get("expected_ap_output", {}).items():
        yield from _rows(f"coco reindex {iou_type}", output, case["preds_for_output"], expected, iou_type=iou_type)
