"""Image predictions from a file into columns, for metrics that look at one (image, phrase) pair at a time.

Source: spec/evaluation.md 1.2 and 2.6.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam3.data.instance_table import InstanceTable, IouType, TableBuilder, entry_name
from sam3.data.saco_truth import whole_number
from sam3.errors import DataError
from sam3.io.json_stream import iterate_list


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
    num_records = 0
    for position, record in enumerate(iterate_list(path)):
        num_records += 1
        if type(record) is not dict:
            raise DataError(f"{entry_name(path, '', position)} must be an object, got {type(record).__name__}")
        pair_id = whole_number(record.get("image_id"), path, "", position, "image_id")
        category_id = whole_number(record.get("category_id"), path, "", position, "category_id")
        score = _score(record, path, position)
        has_box = first_has_box.setdefault(pair_id, bool(record.get("bbox")))
        if score >= score_threshold:
            builder.add(position, pair_id=pair_id, category_id=category_id, score=score)
            _add_shape(builder, position, record, first_has_box=has_box)
    return Predictions(builder.finish(), np.array(sorted(first_has_box), dtype=np.int64), num_records)


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
