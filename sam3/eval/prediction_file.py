"""Detections to COCO result records and back to disk.

Knows file formats only, no network and no metric. Source: spec/evaluation.md sections 1.2 and 6.1.
"""

from collections.abc import Iterable, Sequence
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3.errors import DataError
from sam3.io.files import read_json, write_json
from sam3.ops import rle

if TYPE_CHECKING:
    from sam3.structures import Detections, ImageObjects

Record = dict[str, Any]

DECIMALS = 5  # of scores and box coordinates in a file


def result_record(
    *,
    image_id: int,
    category_id: int,
    score: float,
    box_xyxy: Sequence[float] | None = None,
    segmentation: rle.Rle | None = None,
    area: float | None = None,
) -> Record:
    """One COCO result with what is given: ``bbox`` becomes ``[x, y, w, h]`` in pixels, numbers are rounded."""
    record: Record = {"image_id": int(image_id), "category_id": int(category_id)}
    if box_xyxy is not None:
        record["bbox"] = _rounded_xywh(box_xyxy)
    if segmentation is not None:
        record |= {"segmentation": segmentation, "area": area}
    return record | {"score": round(float(score), DECIMALS)}


def _rounded_xywh(box_xyxy: Sequence[float]) -> list[float]:
    x0, y0, x1, y1 = (float(value) for value in box_xyxy)
    return [round(value, DECIMALS) for value in (x0, y0, x1 - x0, y1 - y0)]


def box_records(detections: "Detections", *, image_id: int, category_id: int) -> list[Record]:
    """One record per detection: ``image_id, category_id, bbox`` (``[x, y, w, h]``, pixels), ``score``."""
    boxes, scores = np.asarray(detections.boxes), np.asarray(detections.scores)
    return [
        result_record(image_id=image_id, category_id=category_id, score=score, box_xyxy=box)
        for box, score in zip(boxes, scores, strict=True)
    ]


def mask_records(detections: "Detections", *, image_id: int, category_id: int) -> list[Record]:
    """One record per detection with ``segmentation`` (compressed RLE) and ``area``.

    ``area`` is the mask's share of the picture. There is no ``bbox``: pycocotools would take the detection's
    area, and so its size class, from the box instead of the mask.
    """
    if detections.masks is None:
        raise DataError("mask records need detections with masks")
    masks, scores = np.asarray(detections.masks).astype(bool), np.asarray(detections.scores)
    return [
        result_record(
            image_id=image_id,
            category_id=category_id,
            score=score,
            segmentation=rle.encode(mask),
            area=float(mask.mean()) if mask.size else 0.0,
        )
        for mask, score in zip(masks, scores, strict=True)
    ]


def pair_records(detections: "Detections", *, pair_id: int) -> list[Record]:
    """One record per detection of an SA-Co pair (spec/evaluation.md 1.2): mask, its share of the picture, and the
    box as a share of width and height, as in the ground truth. Needs masks at the original size."""
    height, width = detections.masks.shape[-2:]
    boxes = np.asarray(detections.boxes, dtype=np.float64) / [width, height, width, height]
    records = mask_records(detections, image_id=pair_id, category_id=1)
    for record, box in zip(records, boxes, strict=True):
        record["bbox"] = _rounded_xywh(box)
    return records


def object_records(found: "ImageObjects", *, image_id: int, with_masks: bool) -> list[Record]:
    """One record per object of a picture; with masks also ``segmentation`` and ``area``, its share of the picture."""
    boxes, masks = np.asarray(found.boxes), found.masks
    records = [
        {"image_id": int(image_id), "category_id": label, "bbox": box, "score": round(score, DECIMALS)}
        for label, box, score in zip(
            found.labels.tolist(),
            _rounded(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)),
            found.scores.tolist(),
            strict=True,
        )
    ]
    if with_masks:
        if masks is None:
            raise DataError("mask records need objects with masks")
        compressed = masks if isinstance(masks, list) else [rle.encode(mask) for mask in np.asarray(masks)]
        for record, mask in zip(records, compressed, strict=True):
            record |= {"segmentation": mask, "area": rle.area(mask) / max(1, mask["size"][0] * mask["size"][1])}
    return records


def _rounded(boxes: np.ndarray) -> list[list[float]]:
    return [[round(value, DECIMALS) for value in box] for box in boxes.tolist()]


def prediction_path(folder: str | Path, iou_type: str, rank: int | None = None) -> Path:
    """``coco_predictions_segm.json``, or ``coco_predictions_segm_3.json`` of one process of several."""
    return Path(folder) / f"coco_predictions_{iou_type}{'' if rank is None else f'_{rank}'}.json"


def merge_ranks(ranks: Iterable[Iterable[Record]], max_detections: int = -1) -> list[Record]:
    """The records of several processes as those of one (spec/evaluation.md 6.1).

    What an earlier process says about an (image, category) counts, because the sampler may give the last processes
    pictures twice. Of every image the best are kept, see :func:`keep_best_per_image`.
    """
    merged: list[Record] = []
    seen: set[tuple[Any, Any]] = set()
    for records in ranks:
        new = [record for record in records if (record["image_id"], record["category_id"]) not in seen]
        seen.update((record["image_id"], record["category_id"]) for record in new)
        merged += new
    return keep_best_per_image(merged, max_detections)


def merge_rank_files(folder: str | Path, iou_type: str, num_ranks: int, *, max_detections: int = -1) -> Path:
    """Merge the files of all processes into one; the parts stay.

    Raises:
        DataError: a part is missing or broken.
    """
    parts = (read_predictions(prediction_path(folder, iou_type, rank)) for rank in range(num_ranks))
    path = prediction_path(folder, iou_type)
    write_predictions(path, merge_ranks(parts, max_detections))
    return path


def keep_best_per_image(records: Iterable[Record], max_detections: int) -> list[Record]:
    """The ``max_detections`` best scores of each image over all its categories; -1 keeps all.

    Images stay in order of first appearance; equal scores keep the order of the input.
    """
    by_image: dict[Any, list[Record]] = {}
    for record in records:
        by_image.setdefault(record["image_id"], []).append(record)
    if max_detections < 0:
        return [record for group in by_image.values() for record in group]
    return [
        record
        for group in by_image.values()
        for record in nlargest(max_detections, group, key=lambda item: item["score"])
    ]


def write_predictions(path: str | Path, records: Sequence[Record]) -> None:
    """Write records as one JSON list, atomically."""
    write_json(path, list(records))


def read_predictions(path: str | Path) -> list[Record]:
    """Read and check a result file.

    Raises:
        DataError: no such file, not JSON, not a list, or a record without the needed fields.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise DataError(f"{path}: expected a JSON list of records, got {type(records).__name__}")
    for index, record in enumerate(records):
        _check_record(record, f"{path}: record {index}")
    return records


def _check_record(record: Any, where: str) -> None:
    if not isinstance(record, dict):
        raise DataError(f"{where} is {type(record).__name__}, expected an object")
    missing = [key for key in ("image_id", "category_id", "score") if key not in record]
    if "bbox" not in record and "segmentation" not in record:
        missing.append("bbox or segmentation")
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)}")
    if not isinstance(record["score"], int | float) or not np.isfinite(record["score"]):
        raise DataError(f"{where} has score {record['score']!r}, expected a number")
    box = record.get("bbox")
    if box is not None and (len(box) != 4 or not np.isfinite(np.asarray(box, dtype=float)).all()):
        raise DataError(f"{where} has bbox {box!r}, expected [x, y, w, h]")
