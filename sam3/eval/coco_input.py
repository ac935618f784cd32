"""What COCO AP compares, in columns: checked once, the same for every engine.

Source: spec/evaluation.md section 4.
"""

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from sam3.errors import DataError
from sam3.io.files import read_json
from sam3.ops import rle

IOU_TYPES = ("bbox", "segm")

Record = Mapping[str, Any]
_NOTHING = rle.Rle(size=[0, 0], counts="0")


@dataclass(frozen=True)
class Objects:
    """N annotated objects or detections, in the order of the input."""

    images: np.ndarray  # (N,) int64 index of the image
    categories: np.ndarray  # (N,) int64 index of the category
    areas: np.ndarray  # (N,) float64 pixels: what decides the size class
    shapes: np.ndarray | list[rle.Rle]  # boxes (N, 4) float64 xywh, or N compressed masks
    crowd: np.ndarray  # (N,) bool, all False of detections
    scores: np.ndarray  # (N,) float64, all 0 of annotations

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray) -> "Objects":
        """The objects of some rows, in that order."""
        shapes = self.shapes
        taken = shapes[rows] if isinstance(shapes, np.ndarray) else [shapes[row] for row in rows.tolist()]
        columns = {name: getattr(self, name)[rows] for name in ("images", "categories", "areas", "crowd", "scores")}
        return replace(self, shapes=taken, **columns)


@dataclass(frozen=True)
class CocoInput:
    """Ground truth and detections; images and categories are numbered in the order of their ids."""

    iou_type: str
    num_images: int
    category_names: tuple[str, ...]  # same-named categories are told apart by their id
    truth: Objects
    detections: Objects

    def positive_split(self) -> "CocoInput":
        """Without detections of categories that their image does not have (a crowd counts as having it)."""
        kept = np.isin(self._cells(self.detections), self._cells(self.truth))
        return replace(self, detections=self.detections.take(np.flatnonzero(kept)))

    def _cells(self, objects: Objects) -> np.ndarray:
        return objects.images * len(self.category_names) + objects.categories


def read_coco(
    ground_truth: Mapping[str, Any] | str | Path, predictions: Sequence[Record] | str | Path, iou_type: str
) -> CocoInput:
    """Check both sides and put them in columns; the arguments are left as they are.

    Raises:
        DataError: something is wrong; the message names the file, the entry and the field.
    """
    if iou_type not in IOU_TYPES:
        raise DataError(f"iou_type is {iou_type!r}; expected one of {', '.join(IOU_TYPES)}")
    truth_name, truth = _load(ground_truth, "the ground truth")
    if not isinstance(truth, Mapping) or any(
        not isinstance(truth.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise DataError(f"{truth_name} must be a COCO dictionary with the lists images, annotations and categories")
    predictions_name, records = _load(predictions, "the predictions")
    if not isinstance(records, Sequence) or isinstance(records, str | bytes):
        raise DataError(f"{predictions_name}: expected a list of COCO result records, got {type(records).__name__}")
    images = _Index.of(truth["images"], f"{truth_name}: images")
    categories = _Index.of(truth["categories"], f"{truth_name}: categories")
    objects = _annotations(truth["annotations"], f"{truth_name}: annotations", images, categories, iou_type)
    return CocoInput(
        iou_type=iou_type,
        num_images=len(images.entries),
        category_names=_names(categories.entries),
        truth=objects,
        detections=_detections(records, predictions_name, images, categories, iou_type, objects),
    )


def _load(source: Any, name: str) -> tuple[str, Any]:
    return (str(source), read_json(source)) if isinstance(source, str | Path) else (name, source)


@dataclass(frozen=True)
class _Index:
    """Entries with an id, in the order of their ids."""

    entries: list[Record]
    position: dict[Any, int]

    @classmethod
    def of(cls, entries: Sequence[Any], name: str) -> "_Index":
        for number, entry in enumerate(entries):
            if not isinstance(entry, Mapping) or not isinstance(entry.get("id"), int | str):
                raise DataError(f"{name}[{number}] must be an object with an id")
        by_id = {entry["id"]: entry for entry in entries}
        try:
            ids = sorted(by_id)
        except TypeError:
            raise DataError(f"{name}: some ids are numbers and some are text") from None
        return cls([by_id[key] for key in ids], {key: number for number, key in enumerate(ids)})


def _names(categories: Sequence[Record]) -> tuple[str, ...]:
    names = [str(category.get("name", category["id"])) for category in categories]
    doubled = {name for name in names if names.count(name) > 1}
    return tuple(
        f"{name} ({category['id']})" if name in doubled else name
        for name, category in zip(names, categories, strict=True)
    )


def _annotations(entries: Sequence[Any], name: str, images: _Index, categories: _Index, iou_type: str) -> Objects:
    """An object without segmentation is an ignore region of mask AP."""
    _each(entries, name, lambda entry: _check_annotation(entry, images, iou_type))
    entries = [entry for entry in entries if entry.get("category_id") in categories.position]
    crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in entries], dtype=bool)
    if iou_type == "bbox":
        shapes = _boxes([entry["bbox"] for entry in entries])
        areas = shapes[:, 2] * shapes[:, 3]
    else:
        segmentations = [entry.get("segmentation") for entry in entries]
        crowd |= np.array([not value for value in segmentations], dtype=bool)
        filled = [value or [box_outline(entry["bbox"])] for value, entry in zip(segmentations, entries, strict=True)]
        shapes, areas = _masks(filled, entries, images, name)
    stated = np.array([entry.get("area", math.nan) for entry in entries], dtype=np.float64)
    return Objects(
        images=_positions(entries, "image_id", images),
        categories=_positions(entries, "category_id", categories),
        areas=np.where(np.isnan(stated), areas, stated),
        shapes=shapes,
        crowd=crowd,
        scores=np.zeros(len(entries)),
    )


def _check_annotation(entry: Any, images: _Index, iou_type: str) -> str | None:
    if not isinstance(entry, Mapping):
        return "must be an object"
    if entry.get("image_id") not in images.position:
        return f"names image {entry.get('image_id')}, which is not listed"
    if iou_type == "bbox" or not entry.get("segmentation"):
        if not _is_box(entry.get("bbox")):
            return f"bbox must be four finite numbers [x, y, w, h], got {entry.get('bbox')!r}"
    area = entry.get("area", 0.0)
    if not isinstance(area, int | float):
        return f"area must be a number, got {area!r}"
    return None


def _detections(
    records: Sequence[Any], name: str, images: _Index, categories: _Index, iou_type: str, truth: Objects
) -> Objects:
    """Detections of unknown categories are left out. If the first record has a box, boxes give all areas."""
    area_from_box = iou_type == "bbox" or bool(records and isinstance(records[0], Mapping) and records[0].get("bbox"))
    try:
        columns = _record_columns(records, images, categories, with_boxes=area_from_box)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        columns = None
    if columns is None:  # something is wrong with one of them
        _each(records, name, lambda record: _check_record(record, images, iou_type, needs_box=area_from_box))
        raise DataError(f"{name}: the records cannot be read")
    kept, places, kinds, scores, boxes = columns
    records = records if kept.all() else [records[row] for row in np.flatnonzero(kept)]
    if iou_type == "bbox":
        shapes, areas = boxes, boxes[:, 2] * boxes[:, 3]
    else:
        filled = [record.get("segmentation") or [box_outline(record["bbox"])] for record in records]
        if boxes is not None:  # then a mask without an object to be compared with is not looked at
            count = len(images.entries)
            is_compared = np.isin(kinds * count + places, truth.categories * count + truth.images)
            for row in np.flatnonzero(~is_compared).tolist():
                filled[row] = _NOTHING
        shapes, areas = _masks(filled, records, images, name)
        areas = areas if boxes is None else boxes[:, 2] * boxes[:, 3]
    return Objects(
        images=places,
        categories=kinds,
        areas=areas,
        shapes=shapes,
        crowd=np.zeros(len(records), dtype=bool),
        scores=scores,
    )


def _record_columns(
    records: Sequence[Record], images: _Index, categories: _Index, *, with_boxes: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None] | None:
    """Rows (N,) of known categories, and of these images, categories, scores and boxes; ``None`` = look closer."""
    position, count = categories.position, len(records)
    scores = [record["score"] for record in records]
    if not set(map(type, scores)) <= {int, float}:
        return None
    places = np.fromiter((images.position[record["image_id"]] for record in records), dtype=np.int64, count=count)
    kinds = np.fromiter((position.get(record["category_id"], -1) for record in records), dtype=np.int64, count=count)
    numbers, boxes = np.array(scores, dtype=np.float64), None
    kept = kinds >= 0
    if with_boxes:
        lists = [record["bbox"] for record in records]
        if not set(map(len, lists)) <= {4}:
            return None
        boxes = np.array(array("d", chain.from_iterable(lists))).reshape(-1, 4)  # refuses text
        boxes = boxes[kept] if np.isfinite(boxes).all() else None
    elif not all(record["segmentation"] for record in records):
        return None
    if not np.isfinite(numbers).all() or (with_boxes and boxes is None):
        return None
    return kept, places[kept], kinds[kept], numbers[kept], boxes


def _check_record(record: Any, images: _Index, iou_type: str, *, needs_box: bool) -> str | None:
    if not isinstance(record, Mapping):
        return "must be an object"
    needed = ["image_id", "category_id", "score"]
    if needs_box:
        needed.append("bbox")
    elif not record.get("segmentation"):
        needed.append("segmentation")
    missing = [key for key in needed if key not in record]
    if missing:
        return f"lacks {', '.join(missing)}"
    if record["image_id"] not in images.position:
        return f"is for image {record['image_id']}, which the ground truth does not list"
    score = record["score"]
    if not isinstance(score, int | float) or not math.isfinite(score):
        return f"score must be a finite number, got {score!r}"
    if needs_box and not _is_box(record["bbox"]):
        return f"bbox must be four finite numbers [x, y, w, h], got {record['bbox']!r}"
    return None


def _each(entries: Iterable[Any], name: str, fault_of: Callable[[Any], str | None]) -> None:
    for number, entry in enumerate(entries):
        fault = fault_of(entry)
        if fault:
            raise DataError(f"{name}[{number}] {fault}")


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list | tuple)
        and len(box) == 4
        and all(isinstance(value, int | float) and math.isfinite(value) for value in box)
    )


def box_outline(box: Sequence[float]) -> list[float]:
    """A box xywh as a polygon."""
    x, y, w, h = box
    return [x, y, x, y + h, x + w, y + h, x + w, y]


def _boxes(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _positions(entries: Sequence[Record], key: str, index: _Index) -> np.ndarray:
    return np.fromiter((index.position[entry[key]] for entry in entries), dtype=np.int64, count=len(entries))


def _masks(
    segmentations: Sequence[Any], entries: Sequence[Record], images: _Index, name: str
) -> tuple[list[rle.Rle], np.ndarray]:
    """Compressed masks and their areas in pixels."""
    masks = []
    for segmentation, entry in zip(segmentations, entries, strict=True):
        if not _is_plain(segmentation):
            image = images.entries[images.position[entry["image_id"]]]
            try:
                segmentation = rle.from_any(segmentation, image["height"], image["width"])
            except KeyError as error:
                raise DataError(f"image {image['id']} lacks {error.args[0]}; its polygons cannot be drawn") from None
            except DataError as error:
                raise DataError(f"{name}: segmentation of an object in image {entry['image_id']}: {error}") from error
        masks.append(segmentation)
    try:
        flat = array("q", chain.from_iterable(mask["size"] for mask in masks))  # refuses fractions and text
        sizes = np.array(flat, dtype=np.int64).reshape(len(masks), 2)
        areas = rle.areas([mask["counts"].encode() for mask in masks], sizes[:, 0], sizes[:, 1])
    except DataError as error:
        raise DataError(f"{name}: segmentation of {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(f"{name}: a compressed mask lacks its size [height, width] in whole pixels") from None
    return masks, areas.astype(np.float64)


def _is_plain(segmentation: Any) -> bool:
    """A compressed mask as files have it; the sizes are looked at by :func:`_masks`."""
    return type(segmentation) is dict and type(segmentation.get("counts")) is str
