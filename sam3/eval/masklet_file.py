"""Masklet predictions of SA-Co/VEval: read and checked, written, and merged from the files of several processes.

Source: spec/evaluation.md 1.4 and 6.2.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam3.data.masklets import Masklet, Record, frames_of, read_boxes, read_masks, whole_number
from sam3.data.saco_video import VideoGroundTruth, check_against_video
from sam3.errors import DataError
from sam3.io.files import write_json_list
from sam3.io.json_stream import iterate_list
from sam3.ops import rle


@dataclass(frozen=True, slots=True)
class PredictedMasklet(Masklet):
    """One object that a model followed."""

    score: float
    areas: np.ndarray | None  # (F,) float64, pixels, as the file says; NaN where null; None: the file has none

    def present(self) -> np.ndarray:
        """(F,) bool: frames with an area above 0 and a box that is not all zero (spec/evaluation.md 3.5, step 1).

        Areas that the file leaves out are those of the masks, or of the boxes where there are no masks either.
        """
        boxed = self.boxes.any(axis=1)
        if self.areas is not None and not np.isnan(self.areas).any():
            return boxed & (self.areas > 0)
        own = self.masks.areas if self.masks is not None else self.boxes[:, 2] * self.boxes[:, 3]
        return boxed & ((own if self.areas is None else np.where(np.isnan(self.areas), own, self.areas)) > 0)


def read_masklets(source: str | Path | Sequence[Record], truth: VideoGroundTruth) -> list[PredictedMasklet]:
    """Read and check predictions against the videos of the ground truth; an empty list is a valid answer.

    Args:
        source: a file, or its records in memory (left as they are).
        truth: knows the videos.

    Raises:
        DataError: the message names the file, the entry and the field.
    """
    name = "the predictions" if isinstance(source, list | tuple) else str(source)
    records = source if isinstance(source, list | tuple) else iterate_list(source)
    return [_masklet(record, truth, f"{name}: masklet {index}") for index, record in enumerate(records)]


def _masklet(record: Any, truth: VideoGroundTruth, where: str) -> PredictedMasklet:
    if not isinstance(record, dict):
        raise DataError(f"{where} is {type(record).__name__}, expected an object")
    boxes, given = read_boxes(record, where)
    masklet = PredictedMasklet(
        video_id=whole_number(record, "video_id", where),
        category_id=whole_number(record, "category_id", where),
        boxes=boxes,
        box_given=given,
        masks=read_masks(record, where) if "segmentations" in record else None,
        score=_score(record, where),
        areas=_areas(record, len(boxes), where) if "areas" in record else None,
    )
    check_against_video(masklet, truth.videos.get(masklet.video_id), where)
    return masklet


def _score(record: Record, where: str) -> float:
    score = record.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not np.isfinite(score):
        came = "is missing" if "score" not in record else f"is {score!r}"
        raise DataError(f"{where}: score {came}, expected a finite number")
    return float(score)


def _areas(record: Record, frames: int, where: str) -> np.ndarray:
    values = frames_of(record, "areas", where)
    try:
        areas = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        areas = np.zeros((0, 0))
    if areas.shape != (frames,) or np.isinf(areas).any() or (areas < 0).any():
        raise DataError(f"{where}: areas must be a list of {frames} numbers of pixels or nulls, as long as bboxes")
    return areas


def masklet_record(
    *,
    video_id: int,
    category_id: int,
    score: float,
    masks: Sequence[rle.Rle | np.ndarray | None],
    boxes_xyxy: np.ndarray | None = None,
    per_frame_scores: Sequence[float] | None = None,
) -> Record:
    """One record of a prediction file; frames without an object get zeros and an empty mask.

    Args:
        video_id: of the ground truth.
        category_id: of the phrase.
        score: of the whole masklet.
        masks: one per frame: compressed RLE, (H, W) bool, or ``None`` for no object; at least one is not ``None``.
        boxes_xyxy: (F, 4) in pixels, the right and lower edges exclusive; ``None`` takes the tight boxes of the masks.
        per_frame_scores: written along if given.

    Raises:
        DataError: numbers of frames or sizes of masks that differ.
    """
    encoded = [rle.encode(mask) if isinstance(mask, np.ndarray) else mask for mask in masks]
    sizes = {tuple(mask["size"]) for mask in encoded if mask is not None}
    if len(sizes) != 1:
        raise DataError(f"the masks of a masklet must be of one size, got {sorted(sizes) or 'none'}")
    empty = rle.encode(np.zeros(sizes.pop(), dtype=bool))
    filled = [empty if mask is None else mask for mask in encoded]
    lengths = {len(values) for values in (filled, boxes_xyxy, per_frame_scores) if values is not None}
    if len(lengths) > 1:
        raise DataError(f"masks, boxes_xyxy and per_frame_scores differ in length: {sorted(lengths)}")
    if boxes_xyxy is None:
        boxes = [rle.to_box_xywh(mask) for mask in filled]
    else:
        corners = np.asarray(boxes_xyxy, dtype=np.float64)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    record = {
        "video_id": int(video_id),
        "category_id": int(category_id),
        "score": float(score),
        "bboxes": boxes,
        "segmentations": filled,
        "areas": [rle.area(mask) for mask in filled],
    }
    if per_frame_scores is not None:
        record["per_frame_scores"] = [float(value) for value in per_frame_scores]
    return record


def merge_masklets(ranks: Iterable[Iterable[Record]]) -> Iterator[Record]:
    """The records of several processes as one list: a (video, phrase) that an earlier process has is skipped.

    Padded samplers give a pair to two processes; what one process says of a pair stays together.
    """
    seen: set[tuple[int, int]] = set()
    for records in ranks:
        own = set()
        for record in records:
            pair = int(record["video_id"]), int(record["category_id"])
            if pair not in seen:
                own.add(pair)
                yield record
        seen |= own


def write_masklets(path: str | Path, records: Iterable[Record]) -> None:
    """Write a prediction file, whole or not at all."""
    write_json_list(path, records)
