"""The prompt x class confusion matrix: what the confident detections of each phrase lie on.

Written by validation as ``dumps/val/confusion_matrix.json``, an object with

    iou_type         "segm" or "bbox", what overlap was measured on
    score_threshold  detections at or above it count
    iou_threshold    overlap from which a detection lies on an object
    prompts          names of the P rows: the phrases of the classes in the order of the categories, then
                     "general phrases" for all phrases from outside the data set together, if any were asked
    classes          names of the C object classes, in the same order
    counts           P lists of C + 1 integers: detections of the row's phrase on objects of each class;
                     the last column is the background (no object overlaps enough)
    asked            P integers: images that were asked for the phrase
    missed           C integers: objects that no confident detection of their own phrase lies on

A detection counts once, for the object it overlaps most; among equals, for one of its own class.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sam3.eval.cgf1 import SCORE_THRESHOLD
from sam3.eval.concepts import ConceptTruth, PairKey, confident_by_pair
from sam3.eval.matching import similarity
from sam3.eval.prediction_file import Record

CONFUSION_FILE = "confusion_matrix.json"
IOU_THRESHOLD = 0.5
GENERAL = "general phrases"
BACKGROUND = "background"  # name of the last column where it is shown


@dataclass(frozen=True)
class ConfusionMatrix:
    """See the module's description."""

    iou_type: str
    prompts: list[str]
    classes: list[str]
    counts: list[list[int]]  # (P, C + 1)
    asked: list[int]  # (P,)
    missed: list[int]  # (C,)
    score_threshold: float = SCORE_THRESHOLD
    iou_threshold: float = IOU_THRESHOLD

    def to_dict(self) -> dict[str, Any]:
        """The content of the file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ConfusionMatrix":
        """Inverse of :meth:`to_dict`."""
        return cls(**values)


def confusion_matrix(
    truth: ConceptTruth, records: Iterable[Record], asked: Iterable[PairKey], phrases: Mapping[int, str]
) -> ConfusionMatrix:
    """Count what lies on what.

    Args:
        records: result records with the shapes that ``truth`` judges.
        asked: every pair that the model was asked.
        phrases: category id -> phrase of the data set's classes, in the order wanted.
    """
    column = {category_id: place for place, category_id in enumerate(phrases)}
    pairs = list(dict.fromkeys(asked))
    rows = [column.get(category_id, len(column)) for _, category_id in pairs]
    has_general = any(row == len(column) for row in rows)
    counts = np.zeros((len(column) + 1, len(column) + 1), dtype=int)
    missed = np.zeros(len(column), dtype=int)
    found = _by_image(confident_by_pair(records), set(pairs))
    objects = _by_image(truth.objects, {key for key in truth.objects if key[1] in column})
    for image_id in {image_id for image_id, _ in pairs}:
        labels, shapes = _flat(objects.get(image_id, {}), column)
        prompts, detections = _flat(found.get(image_id, {}), column)
        ious = similarity(truth.shapes(map(truth.shape_of, detections)), truth.shapes(shapes))
        _count(counts, missed, ious, np.asarray(prompts, dtype=int), np.asarray(labels, dtype=int))
    size = len(column) + has_general
    names = list(phrases.values())
    return ConfusionMatrix(
        iou_type=truth.iou_type,
        prompts=names + [GENERAL] * has_general,
        classes=names,
        counts=counts[:size].tolist(),
        asked=np.bincount(rows, minlength=size)[:size].tolist(),
        missed=missed.tolist(),
    )


def _count(counts: np.ndarray, missed: np.ndarray, ious: np.ndarray, prompts: np.ndarray, labels: np.ndarray) -> None:
    """Add one image: ``ious`` (D, G), row of every detection (D,), column of every object (G,)."""
    own = prompts[:, None] == labels[None]
    if ious.size:
        best = (ious + own * 1e-9).argmax(1)
        lies_on = ious[np.arange(len(best)), best] >= IOU_THRESHOLD
        columns = np.where(lies_on, labels[best], counts.shape[1] - 1)
    else:
        columns = np.full(len(prompts), counts.shape[1] - 1)
    np.add.at(counts, (prompts, columns), 1)
    is_found = ((ious >= IOU_THRESHOLD) & own).any(0)
    np.add.at(missed, labels[~is_found], 1)


def _by_image(groups: Mapping[PairKey, Sequence[Any]], wanted: set[PairKey]) -> dict[int, dict[int, Sequence[Any]]]:
    """Image id -> category id -> what belongs to the pair."""
    sorted_out: dict[int, dict[int, Sequence[Any]]] = {}
    for (image_id, category_id), group in groups.items():
        if (image_id, category_id) in wanted:
            sorted_out.setdefault(image_id, {})[category_id] = group
    return sorted_out


def _flat(groups: Mapping[int, Sequence[Any]], place: Mapping[int, int]) -> tuple[list[int], list[Any]]:
    """Row or column of every entry, and the entries; phrases from outside share the row after the last class."""
    entries = [(place.get(category_id, len(place)), entry) for category_id, group in groups.items() for entry in group]
    return [number for number, _ in entries], [entry for _, entry in entries]
