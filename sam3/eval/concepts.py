"""(image, phrase) pairs of a COCO data set: cgF1 over them, and the wrong prompts that fire.

Pure functions on COCO dictionaries and result records. A pair is ``(image id, category id)``; phrases from outside the
data set have category ids below zero and never an object. Pairs that hold a crowd region, or an object without a mask
where masks are judged, cannot be judged and are left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3.eval.cgf1 import SCORE_THRESHOLD, Cgf1, Pair, evaluate
from sam3.eval.matching import Shapes
from sam3.eval.prediction_file import Record
from sam3.ops import rle

PairKey = tuple[int, int]  # image id, category id

# Of the 26 numbers of cgF1, those that a validation reports.
REPORTED = ("cgF1", "IL_MCC", "positive_micro_F1", "IL_precision", "IL_recall", "cgF1@0.5", "cgF1@0.75")


@dataclass(frozen=True)
class ConceptTruth:
    """The objects of every pair of a data set."""

    iou_type: str  # "segm" or "bbox"
    objects: Mapping[PairKey, Sequence[Any]]  # compressed masks, or [x, y, w, h] in pixels
    unclear: frozenset[PairKey]  # cannot be judged

    @classmethod
    def of(cls, truth: Mapping[str, Any], iou_type: str) -> "ConceptTruth":
        """From COCO annotations (``images``, ``annotations``, ``categories``)."""
        sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
        objects: dict[PairKey, list[Any]] = {}
        unclear = set()
        for entry in truth["annotations"]:
            key = (entry["image_id"], entry["category_id"])
            if entry.get("iscrowd") or (iou_type == "segm" and not entry.get("segmentation")):
                unclear.add(key)
            elif iou_type == "segm":
                objects.setdefault(key, []).append(rle.from_any(entry["segmentation"], *sizes[key[0]]))
            else:
                objects.setdefault(key, []).append(entry["bbox"])
        return cls(iou_type, objects, frozenset(unclear))

    def shapes(self, found: Iterable[Any]) -> Shapes:
        """What the IoU is computed of: a list of masks, or an array of boxes (N, 4)."""
        return list(found) if self.iou_type == "segm" else np.asarray(list(found), dtype=float).reshape(-1, 4)

    def shape_of(self, record: Record) -> Any:
        """The part of a result record that is judged."""
        return record["segmentation" if self.iou_type == "segm" else "bbox"]


@dataclass(frozen=True)
class FiringRate:
    """How often wrong prompts fire: absent (image, phrase) pairs with a detection at or above 0.5."""

    fired: int
    asked: int

    @property
    def rate(self) -> float:
        """In [0, 1]; -1 when no absent pair was asked."""
        return self.fired / self.asked if self.asked else -1.0


@dataclass(frozen=True)
class ConceptResult:
    """How well it is told what is there, over all pairs asked."""

    cgf1: Cgf1
    wrong_classes: FiringRate  # classes of the data set that the image does not show
    wrong_general: FiringRate  # phrases from outside the data set

    @property
    def is_defined(self) -> bool:
        """Whether cgF1 says anything: without a negative or without a positive pair it is 0 whatever is predicted."""
        absent = self.wrong_classes.asked + self.wrong_general.asked
        return 0 < absent < self.cgf1.totals.num_pairs

    def to_dict(self) -> dict[str, float]:
        """The numbers of :data:`REPORTED` as ``cgF1_eval_<iou_type>_<name>``, and the rates that exist."""
        all_numbers, prefix = self.cgf1.to_dict(), f"cgF1_eval_{self.cgf1.iou_type}_"
        values = {prefix + name: all_numbers[prefix + name] for name in REPORTED}
        rates = {"classes": self.wrong_classes, "general": self.wrong_general}
        return values | {f"wrong_prompt_rate_{kind}": rate.rate for kind, rate in rates.items() if rate.asked}


def judge_concepts(truth: ConceptTruth, records: Iterable[Record], asked: Iterable[PairKey]) -> ConceptResult:
    """cgF1 and the wrong prompts that fire.

    Args:
        records: result records with the shapes that ``truth`` judges; those below 0.5 and those of pairs that were not
            asked do not count.
        asked: every pair that the model was asked, once or more often.
    """
    judged = [key for key in dict.fromkeys(asked) if key not in truth.unclear]
    found = confident_by_pair(records)
    absent = [key for key in judged if not truth.objects.get(key)]
    return ConceptResult(
        cgf1=evaluate(_pairs(truth, found, judged), truth.iou_type),
        wrong_classes=_firing_rate(found, [key for key in absent if key[1] >= 0]),
        wrong_general=_firing_rate(found, [key for key in absent if key[1] < 0]),
    )


def confident_by_pair(records: Iterable[Record]) -> dict[PairKey, list[Record]]:
    """Records at or above 0.5 by their pair."""
    found: dict[PairKey, list[Record]] = {}
    for record in records:
        if record["score"] >= SCORE_THRESHOLD:
            found.setdefault((record["image_id"], record["category_id"]), []).append(record)
    return found


def _pairs(truth: ConceptTruth, found: Mapping[PairKey, Sequence[Record]], judged: Iterable[PairKey]) -> Iterator[Pair]:
    for number, key in enumerate(judged):
        records = found.get(key, ())
        yield Pair(
            pair_id=number,
            predictions=truth.shapes(map(truth.shape_of, records)),
            scores=[record["score"] for record in records],
            annotators=[truth.shapes(truth.objects.get(key, ()))],
        )


def _firing_rate(found: Mapping[PairKey, Sequence[Record]], absent: Sequence[PairKey]) -> FiringRate:
    return FiringRate(sum(key in found for key in absent), len(absent))
