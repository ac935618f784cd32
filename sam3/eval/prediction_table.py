"""Image predictions from a file into columns, for metrics that look at one (image, phrase) pair at a time.

Source: spec/evaluation.md 1.2 and 2.6.
"""

import math
from array import array
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sam3.data.instance_table import InstanceTable, IouType, TableBuilder, entry_name
from sam3.data.saco_truth import MAX_ID, whole_number
from sam3.errors import DataError
from sam3.io.json_stream import iterate_list

_RECORDS_AT_ONCE = 256


@dataclass(frozen=True)
class Predictions:
    """The predictions of a file that can count."""

    instances: InstanceTable  # at or above the score threshold
    pair_ids: np.ndarray  # int64, rising: every pair that has a prediction, confident or not
    num_records: int  # in the file


def read_predictions_table(path: str | Path, iou_type: IouType, *, score_threshold: float) -> Predictions:
    """Read and check a list of COCO result records.

    The first record of a pair decides: if it has a ``bbox``, every record of the pair must have one (to compare
    boxes), and one without ``segmentation`` counts as its box drawn in pixels; otherwise boxes are those of the masks,
    in pixels.

    Args:
        path: of the JSON file.
        iou_type: whether the masks or the boxes are kept.
        score_threshold: records below it are left out.

    Raises:
        DataError: the file is missing or no JSON, or a record is wrong; the message names file, record and field.
    """
    builder = TableBuilder(path, "", iou_type)
    first_has_box: dict[int, bool] = {}
    num_records, records = 0, iterate_list(path)
    while block := list(islice(records, _RECORDS_AT_ONCE)):
        try:
            _add_block(builder, num_records, block, first_has_box, score_threshold)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):  # DataError is a ValueError
            for position, record in enumerate(block, start=num_records):
                _add_record(builder, position, record, first_has_box, score_threshold)
        num_records += len(block)
    return Predictions(builder.finish(), np.array(sorted(first_has_box), dtype=np.int64), num_records)


def _add_block(
    builder: TableBuilder, first: int, records: list[Any], first_has_box: dict[int, bool], score_threshold: float
) -> None:
    """Neighbouring records, the first at position ``first``: all in one go, or an error if one of them is unusual."""
    pair_ids, scores = [record["image_id"] for record in records], [record["score"] for record in records]
    kinds = [record["category_id"] for record in records]
    numbers = array("q", pair_ids + kinds)  # refuses what does not fit
    is_usual = set(map(type, pair_ids)) == set(map(type, kinds)) == {int} and not set(map(type, scores)) - {int, float}
    if not is_usual or max(numbers) >= MAX_ID or min(numbers) <= -MAX_ID or not np.isfinite(scores).all():
        raise ValueError("one of the records is unusual")
    kept = [row for row, score in enumerate(scores) if score >= score_threshold]
    field = "segmentation" if builder.iou_type == "segm" else "bbox"
    builder.extend(
        [first + row for row in kept],
        [pair_ids[row] for row in kept],
        [records[row][field] for row in kept],
        category_ids=[kinds[row] for row in kept],
        scores=[scores[row] for row in kept],
    )
    for pair_id, record in zip(pair_ids, records, strict=True):
        first_has_box.setdefault(pair_id, bool(record.get("bbox")))


def _add_record(
    builder: TableBuilder, position: int, record: Any, first_has_box: dict[int, bool], score_threshold: float
) -> None:
    if type(record) is not dict:
        raise DataError(f"{entry_name(builder.path, '', position)} must be an object, got {type(record).__name__}")
    pair_id = whole_number(record.get("image_id"), builder.path, "", position, "image_id")
    category_id = whole_number(record.get("category_id"), builder.path, "", position, "category_id")
    score = _score(record, builder.path, position)
    has_box = first_has_box.setdefault(pair_id, bool(record.get("bbox")))
    if score >= score_threshold:
        builder.add(position, pair_id=pair_id, category_id=category_id, score=score)
        _add_shape(builder, position, record, first_has_box=has_box)


def _score(record: dict[str, Any], path: str | Path, position: int) -> float:
    score = record.get("score")
    if type(score) not in (int, float) or not math.isfinite(score):
        raise DataError(f"{entry_name(path, '', position)}: score must be a finite number, got {score!r}")
    return score


def _add_shape(builder: TableBuilder, position: int, record: dict[str, Any], *, first_has_box: bool) -> None:
    box, segmentation = record.get("bbox") or None, record.get("segmentation") or None
    name = entry_name(builder.path, "", position)
    if builder.iou_type == "bbox":
        if box is None and first_has_box:
            raise DataError(f"{name}: bbox is missing; the first record of the pair has one, so every record needs it")
        if box is None and segmentation is None:
            raise DataError(f"{name}: bbox is missing, and so is segmentation")
        builder.add_shape(position, box=box, segmentation=segmentation)
        return
    if segmentation is None:
        if box is None or not first_has_box:
            raise DataError(f"{name}: segmentation is missing; comparing segm needs it")
        segmentation = [_outline(builder.checked_box(position, box))]
    builder.add_shape(position, segmentation=segmentation)


def _outline(box: list[float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x, y + h, x + w, y + h, x + w, y]
