"""Which detections are right: each takes the best object that is left, the most confident first, as in COCO AP.

From one matching at one IoU come the precision-recall curve of a category, its counts at a score threshold, and a
quality for each image. Pure functions on COCO annotations and result records.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3.eval.matching import Shapes, similarity
from sam3.eval.prediction_file import Record
from sam3.ops import rle

MIN_IOU = 0.5


@dataclass(frozen=True)
class Hits:
    """The detections of one category, best first; D detections."""

    image_ids: np.ndarray  # (D,)
    scores: np.ndarray  # (D,) in [0, 1]
    ious: np.ndarray  # (D,) with the object that the detection took; 0 = it took none
    objects: Mapping[int, int]  # image id -> number of objects

    @property
    def is_hit(self) -> np.ndarray:
        """(D,) bool."""
        return self.ious > 0

    @property
    def num_objects(self) -> int:
        return sum(self.objects.values())

    def above(self, score: float) -> "Hits":
        """The detections that exceed ``score``; less confident ones took nothing from them."""
        kept = self.scores > score
        return Hits(self.image_ids[kept], self.scores[kept], self.ious[kept], self.objects)


@dataclass(frozen=True)
class Counts:
    """Hits, false alarms and misses, of a category or of an image."""

    hits: int = 0
    false_alarms: int = 0
    misses: int = 0
    iou_sum: float = 0.0  # over the hits

    @property
    def precision(self) -> float | None:
        """None without a detection."""
        found = self.hits + self.false_alarms
        return self.hits / found if found else None

    @property
    def recall(self) -> float | None:
        """None without an object."""
        there = self.hits + self.misses
        return self.hits / there if there else None

    @property
    def mean_iou(self) -> float | None:
        """Of the hits; None without one."""
        return self.iou_sum / self.hits if self.hits else None

    @property
    def quality(self) -> float:
        """Sum of IoU / (hits + half the false alarms + half the misses), in [0, 1]; 1 where nothing is and nothing
        was found. The panoptic quality of arXiv 1801.00868."""
        total = self.hits + self.false_alarms / 2 + self.misses / 2
        return self.iou_sum / total if total else 1.0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits + other.hits,
            self.false_alarms + other.false_alarms,
            self.misses + other.misses,
            self.iou_sum + other.iou_sum,
        )


@dataclass(frozen=True)
class PrCurve:
    """What counts at ascending score thresholds, (T,) each."""

    thresholds: np.ndarray
    hits: np.ndarray
    false_alarms: np.ndarray
    misses: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """(T,); 1 where nothing is found any more."""
        found = self.hits + self.false_alarms
        return np.where(found > 0, self.hits / np.maximum(found, 1), 1.0)

    @property
    def recall(self) -> np.ndarray:
        """(T,)."""
        return self.hits / np.maximum(self.hits + self.misses, 1)


def find_hits(
    truth: Mapping[str, Any], records: Sequence[Record], iou_type: str = "segm", *, min_iou: float = MIN_IOU
) -> dict[int, Hits]:
    """Category id -> its detections, for every category of ``truth``.

    Args:
        truth: COCO annotations. Objects that are crowds, or for ``"segm"`` have no mask, are neither found nor
            missed: a detection inside one is left out.
        records: COCO results on these images.
        iou_type: ``"bbox"`` or ``"segm"``.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    objects, found = defaultdict(list), defaultdict(list)
    for annotation in truth["annotations"]:
        objects[annotation["category_id"], annotation["image_id"]].append(annotation)
    for record in records:
        found[record["category_id"], record["image_id"]].append(record)
    result = {}
    for category in truth["categories"]:
        parts, counts = [], {}
        for image_id, size in sizes.items():
            there, own = objects.get((category["id"], image_id), []), found.get((category["id"], image_id), [])
            if there or own:
                scores, ious, counts[image_id] = _match_pair(there, own, size, iou_type, min_iou)
                parts.append((np.full(len(scores), image_id), scores, ious))
        result[category["id"]] = _sorted(parts, {image_id: count for image_id, count in counts.items() if count})
    return result


def counts_of(hits: Hits, score: float) -> Counts:
    """What a category counts at a score threshold (exceeded)."""
    kept = hits.above(score)
    right = int(kept.is_hit.sum())
    return Counts(right, len(kept.scores) - right, hits.num_objects - right, float(kept.ious.sum()))


def counts_of_images(categories: Iterable[Hits], image_ids: Iterable[int], score: float) -> dict[int, Counts]:
    """Image id -> its counts over all categories at a score threshold (exceeded)."""
    totals = {image_id: Counts() for image_id in image_ids}
    for hits in categories:
        kept = hits.above(score)
        for image_id, iou in zip(kept.image_ids.tolist(), kept.ious.tolist(), strict=True):
            totals[image_id] += Counts(hits=1, iou_sum=iou) if iou else Counts(false_alarms=1)
        found = dict(zip(*np.unique(kept.image_ids[kept.is_hit], return_counts=True), strict=True))
        for image_id, count in hits.objects.items():
            totals[image_id] += Counts(misses=count - int(found.get(image_id, 0)))
    return totals


def precision_recall(hits: Hits, *, steps: int = 101) -> PrCurve:
    """Counts at ``steps`` even score thresholds from 0 to 1 (reached)."""
    thresholds = np.linspace(0, 1, steps)
    right, all_of_them = np.sort(hits.scores[hits.is_hit]), np.sort(hits.scores)
    true = len(right) - np.searchsorted(right, thresholds)
    found = len(all_of_them) - np.searchsorted(all_of_them, thresholds)
    return PrCurve(thresholds, true, found - true, hits.num_objects - true)


def _match_pair(
    objects: Sequence[Record], found: Sequence[Record], size: tuple[int, int], iou_type: str, min_iou: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores and IoU of the detections of one category in one image, best first, and the number of objects."""
    found = sorted(found, key=lambda record: -record["score"])
    is_object = [_counts(annotation, iou_type) for annotation in objects]
    wanted = [annotation for annotation, counts in zip(objects, is_object, strict=True) if counts]
    spared = [annotation for annotation, counts in zip(objects, is_object, strict=True) if not counts]
    shapes = _shapes(found, size, iou_type)
    ious = _take(similarity(shapes, _shapes(wanted, size, iou_type)), min_iou)
    kept = ious > 0
    if spared:
        kept |= _share_inside(shapes, _shapes(spared, size, iou_type)) < min_iou
    else:
        kept[:] = True
    return np.array([record["score"] for record in found])[kept], ious[kept], len(wanted)


def _counts(annotation: Record, iou_type: str) -> bool:
    return not annotation.get("iscrowd", 0) and (iou_type == "bbox" or bool(annotation.get("segmentation")))


def _take(ious: np.ndarray, min_iou: float) -> np.ndarray:
    """(D, G) -> (D,): IoU of each detection with the object it takes, in order; 0 = none that is left is near.

    Among equally near ones the last, as pycocotools does.
    """
    ious, taken = ious.copy(), np.zeros(len(ious))
    for row in range(len(ious) if ious.shape[1] else 0):
        best = ious.shape[1] - 1 - int(ious[row, ::-1].argmax())
        if ious[row, best] >= min_iou:
            taken[row] = ious[row, best]
            ious[:, best] = -1.0
    return taken


def _share_inside(shapes: Shapes, regions: Shapes) -> np.ndarray:
    """(D,) largest share of each detection that lies in one region."""
    from pycocotools import mask as coco_mask

    if not len(shapes):
        return np.zeros(0)
    return coco_mask.iou(shapes, regions, [1] * len(regions)).max(axis=1)


def _shapes(records: Sequence[Record], size: tuple[int, int], iou_type: str) -> Shapes:
    if iou_type == "bbox":
        return np.array([record["bbox"] for record in records], dtype=np.float64).reshape(-1, 4)
    return [_mask(record, size) for record in records]


def _mask(record: Record, size: tuple[int, int]) -> rle.Rle:
    """The mask, of a region without one its box."""
    if record.get("segmentation"):
        return rle.from_any(record["segmentation"], *size)
    x, y, width, height = record["bbox"]
    return rle.from_any([[x, y, x + width, y, x + width, y + height, x, y + height]], *size)


def _sorted(parts: Sequence[tuple[np.ndarray, ...]], objects: Mapping[int, int]) -> Hits:
    empty = (np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
    image_ids, scores, ious = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    order = np.argsort(-scores, kind="stable")
    return Hits(image_ids[order].astype(np.int64), scores[order], ious[order], objects)
