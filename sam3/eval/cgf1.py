"""cgF1 of images: is a phrase found where it applies, and are its objects separated well?

Pure functions on the predictions and objects of (image, phrase) pairs; files are read elsewhere. Each pair is judged
against every annotator, the kindest counts, counts are summed, and rates are formed at the end.
Source: spec/evaluation.md section 2.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from sam3.eval.matching import Shapes, assign, match, similarity

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
SCORE_THRESHOLD = 0.5  # inclusive

_MAX_SHARED = 1 << 22  # entries of a similarity that all annotators share
_NO_IOUS = np.zeros(0)
_EPS = 1e-4  # of rates of objects
_PAIR_EPS = 1e-6  # of rates of pairs
_NUM = len(IOU_THRESHOLDS)


class Outcome(Enum):
    """What happened to a pair as a whole: objects exist (or not), predictions exist (or not)."""

    TP = "TP"
    FP = "FP"
    TN = "TN"
    FN = "FN"

    __hash__ = object.__hash__  # members are single; Enum's own hash costs a call of Python for every pair counted


@dataclass(frozen=True, slots=True)
class Pair:
    """One phrase asked of one image.

    All shapes of a pair are of one kind: compressed masks, or boxes (N, 4) xywh in one unit.
    """

    pair_id: int
    predictions: Shapes  # D
    scores: Sequence[float] | np.ndarray  # (D,)
    annotators: Sequence[Shapes]  # the objects that each annotator saw, crowds left out
    accepted: Sequence[np.ndarray | None] | None = None  # (D,) bool: predictions that count for each annotator


@dataclass(frozen=True, slots=True)
class Judgement:
    """One pair against one annotator."""

    outcome: Outcome
    num_predictions: int  # at or above the score threshold
    num_objects: int
    ious: np.ndarray  # (M,) float64 of the assigned prediction-object pairs

    def true_positives(self) -> np.ndarray:
        """(10,) int: assigned pairs that reach each IoU threshold."""
        rising = self.ious.copy()
        rising.sort()
        return len(rising) - rising.searchsorted(IOU_THRESHOLDS, side="left")

    def false_positives(self) -> np.ndarray:
        """(10,) int."""
        return self.num_predictions - self.true_positives()

    def false_negatives(self) -> np.ndarray:
        """(10,) int."""
        return self.num_objects - self.true_positives()

    def local_f1(self) -> np.ndarray | None:
        """(10,) F1 of this pair alone; ``None`` of a true negative."""
        if self.outcome is Outcome.TN:
            return None
        if self.outcome is not Outcome.TP:
            return np.zeros(_NUM)
        return _local_f1(self.true_positives(), self.num_predictions, self.num_objects)

    def mean_local_f1(self) -> float | None:
        """Mean of :meth:`local_f1`."""
        if self.outcome is Outcome.TN:
            return None
        return float(np.add.reduce(self.local_f1()) / _NUM) if self.outcome is Outcome.TP else 0.0


@dataclass(frozen=True, slots=True)
class PairResult:
    """One pair against the annotator that judges it most kindly."""

    pair_id: int
    annotator: int  # index of the one that counts
    judgement: Judgement
    mean_local_f1s: tuple[float | None, ...]  # of every annotator; None = true negative

    @property
    def outcome(self) -> Outcome:
        """The outcome that counts."""
        return self.judgement.outcome


class Metric(NamedTuple):
    """One reported number: a field of :class:`Cgf1` under its published name."""

    name: str
    value: str
    image_level: bool
    iou_threshold: float | None = None  # None: the mean over all thresholds, or a number of pairs


_VECTORS = (
    ("cgF1", "cgf1"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("F1", "f1"),
    ("positive_macro_F1", "positive_macro_f1"),
    ("positive_micro_F1", "positive_micro_f1"),
    ("positive_micro_precision", "positive_micro_precision"),
)
_SCALARS = (
    ("IL_precision", "il_precision"),
    ("IL_recall", "il_recall"),
    ("IL_F1", "il_f1"),
    ("IL_FPR", "il_fpr"),
    ("IL_MCC", "il_mcc"),
)
METRICS = (
    *(Metric(name, value, image_level=False) for name, value in _VECTORS),
    *(Metric(name, value, image_level=True) for name, value in _SCALARS),
    *(Metric(f"{name}@{at}", value, False, at) for at in (0.5, 0.75) for name, value in _VECTORS),
)


@dataclass(frozen=True)
class Cgf1:
    """cgF1 and what it is made of; vectors have one value per IoU threshold, (10,)."""

    iou_type: str
    cgf1: np.ndarray  # positive_micro_f1 * il_mcc
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    positive_macro_f1: np.ndarray  # NaN without a pair that has both objects and predictions
    positive_micro_f1: np.ndarray
    positive_micro_precision: np.ndarray
    il_precision: float
    il_recall: float
    il_f1: float
    il_fpr: float
    il_mcc: float
    totals: "Totals"

    def value(self, metric: Metric) -> float:
        """One reported number; -1 where nothing defines it."""
        vector = np.atleast_1d(getattr(self, metric.value))
        if metric.iou_threshold is not None:
            vector = vector[[np.abs(IOU_THRESHOLDS - metric.iou_threshold).argmin()]]
        valid = vector[vector > -1]  # not a number is not above -1 either
        return float(valid.mean()) if len(valid) else -1.0

    def to_dict(self) -> dict[str, float]:
        """The 26 numbers under ``cgF1_eval_<iou_type>_<name>``, in the order of :data:`METRICS`."""
        return {f"cgF1_eval_{self.iou_type}_{metric.name}": self.value(metric) for metric in METRICS}


def _zeros() -> np.ndarray:
    return np.zeros(_NUM, dtype=np.int64)


@dataclass
class Totals:
    """Counts summed over pairs; vectors per IoU threshold, (10,)."""

    true_positives: np.ndarray = field(default_factory=_zeros)
    false_positives: np.ndarray = field(default_factory=_zeros)
    positive_false_positives: np.ndarray = field(default_factory=_zeros)  # of the pairs that have objects
    false_negatives: np.ndarray = field(default_factory=_zeros)
    local_f1: np.ndarray = field(default_factory=lambda: np.zeros(_NUM))  # sum over the pairs that have objects
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))

    def add(self, result: PairResult) -> None:
        """Count one pair."""
        judged = result.judgement
        self.outcomes[judged.outcome] += 1
        if judged.outcome is Outcome.FN:
            self.false_negatives += judged.num_objects
        elif judged.outcome is Outcome.FP:
            self.false_positives += judged.num_predictions
        elif judged.outcome is Outcome.TP:
            hits = judged.true_positives()
            self.true_positives += hits
            self.false_positives += judged.num_predictions - hits
            self.positive_false_positives += judged.num_predictions - hits
            self.false_negatives += judged.num_objects - hits
            self.local_f1 += _local_f1(hits, judged.num_predictions, judged.num_objects)

    def merge(self, other: "Totals") -> None:
        """Add what was counted elsewhere."""
        self.true_positives += other.true_positives
        self.false_positives += other.false_positives
        self.positive_false_positives += other.positive_false_positives
        self.false_negatives += other.false_negatives
        self.local_f1 += other.local_f1
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] += count

    @property
    def num_pairs(self) -> int:
        """Pairs counted."""
        return sum(self.outcomes.values())

    def result(self, iou_type: str) -> Cgf1:
        """The rates."""
        tp, fp, fn = self.true_positives, self.false_positives, self.false_negatives
        precision, recall = tp / (tp + fp + _EPS), tp / (tp + fn + _EPS)
        positive_precision = tp / (tp + self.positive_false_positives + _EPS)
        positive_micro_f1 = _f1(positive_precision, recall, _EPS)
        with_both = self.outcomes[Outcome.TP]
        rates = _pair_rates(self.outcomes)
        return Cgf1(
            iou_type=iou_type,
            cgf1=positive_micro_f1 * rates["il_mcc"],
            precision=precision,
            recall=recall,
            f1=_f1(precision, recall, _EPS),
            positive_macro_f1=self.local_f1 / with_both if with_both else np.full(_NUM, np.nan),
            positive_micro_f1=positive_micro_f1,
            positive_micro_precision=positive_precision,
            **rates,
            totals=self,
        )


def evaluate(pairs: Iterable[Pair], iou_type: str = "segm", *, score_threshold: float = SCORE_THRESHOLD) -> Cgf1:
    """cgF1 of pairs in memory; they are judged one after the other and not kept.

    Args:
        pairs: those that count (exhaustively annotated by everybody); each with at least one annotator.
        iou_type: ``"segm"`` or ``"bbox"``: only names the result, the shapes themselves decide what is compared.
        score_threshold: predictions below it do not exist.
    """
    return total(judge(pair, score_threshold) for pair in pairs).result(iou_type)


def total(results: Iterable[PairResult]) -> Totals:
    """The sums over pairs."""
    totals = Totals()
    for result in results:
        totals.add(result)
    return totals


def judge(pair: Pair, score_threshold: float = SCORE_THRESHOLD) -> PairResult:
    """One pair against the annotator that is kindest to it (spec/evaluation.md 2.3 and 2.4)."""
    if not len(pair.predictions):
        return judge_unpredicted(pair.pair_id, tuple(map(len, pair.annotators)))
    judgements = _judgements(pair, score_threshold)
    f1s = tuple(judgement.mean_local_f1() for judgement in judgements)
    best = kindest(f1s)
    return PairResult(pair.pair_id, best, judgements[best], f1s)


def judge_unpredicted(pair_id: int, num_objects: tuple[int, ...]) -> PairResult:
    """:func:`judge` of a pair without predictions, from how many objects each annotator saw: most pairs are so."""
    return PairResult(pair_id, *_unpredicted(num_objects))


@lru_cache(maxsize=4096)
def _unpredicted(num_objects: tuple[int, ...]) -> tuple[int, Judgement, tuple[float | None, ...]]:
    judgements = [judgement(0, number, _NO_IOUS) for number in num_objects]
    f1s = tuple(judgement.mean_local_f1() for judgement in judgements)
    best = kindest(f1s)
    return best, judgements[best], f1s


def kindest(mean_local_f1s: Sequence[float | None]) -> int:
    """Index of the annotator that counts: a true negative (``None``) always wins, ties keep the earlier F1."""
    best = 0
    for index, current in enumerate(mean_local_f1s[1:], start=1):
        chosen = mean_local_f1s[best]
        if current is None or (chosen is not None and current > chosen):
            best = index
    return best


def _judgements(pair: Pair, score_threshold: float) -> list[Judgement]:
    confident = np.asarray(pair.scores) >= score_threshold
    if pair.accepted is None:
        return _against_all(_select(pair.predictions, confident), pair.annotators)
    return [
        _against_all(_select(pair.predictions, confident & accepted), [objects])[0]
        for accepted, objects in zip(pair.accepted, pair.annotators, strict=True)
    ]


def _against_all(predictions: Shapes, annotators: Sequence[Shapes]) -> list[Judgement]:
    """The same predictions against each annotator; unless they are very many, one computation of IoU serves all."""
    together = sum(map(len, annotators)) if len(predictions) else 0
    if len(predictions) * together > _MAX_SHARED:
        matched = [match(predictions, objects).ious for objects in annotators]
    elif not together:
        matched = [_NO_IOUS] * len(annotators)
    else:
        matched, columns = [], similarity(predictions, _joined(annotators))
        for objects in annotators:
            own, columns = columns[:, : len(objects)], columns[:, len(objects) :]
            matched.append(assign(own).ious if len(objects) else _NO_IOUS)
    return [judgement(len(predictions), len(objects), ious) for objects, ious in zip(annotators, matched, strict=True)]


def judgement(num_predictions: int, num_objects: int, ious: np.ndarray) -> Judgement:
    """A pair with so many predictions and objects, of which those with ``ious`` (M,) are assigned to each other."""
    if num_predictions:
        outcome = Outcome.TP if num_objects else Outcome.FP
    else:
        outcome = Outcome.FN if num_objects else Outcome.TN
    return Judgement(outcome, num_predictions, num_objects, ious)


def _select(shapes: Shapes, kept: np.ndarray) -> Shapes:
    if False not in kept.tolist():  # for the few of a pair faster than kept.all()
        return shapes
    return shapes[kept] if isinstance(shapes, np.ndarray) else [shapes[index] for index in np.flatnonzero(kept)]


def _joined(shapes: Sequence[Shapes]) -> Shapes:
    if isinstance(shapes[0], np.ndarray):
        return np.concatenate(shapes)
    return [mask for part in shapes for mask in part]


def _local_f1(true_positives: np.ndarray, num_predictions: int, num_objects: int) -> np.ndarray:
    return _possible_f1s(num_predictions, num_objects)[true_positives]


@lru_cache(maxsize=1024)
def _possible_f1s(num_predictions: int, num_objects: int) -> np.ndarray:
    """F1 of a pair with 0, 1, ... true positives."""
    true_positives = np.arange(min(num_predictions, num_objects) + 1)
    precision = true_positives / (num_predictions + _EPS)
    return _f1(precision, true_positives / (num_objects + _EPS), _EPS)


def _f1(precision: Any, recall: Any, eps: float) -> Any:
    return 2 * precision * recall / (precision + recall + eps)


def _pair_rates(outcomes: dict[Outcome, int]) -> dict[str, float]:
    """How well it is told whether a phrase applies to an image at all; float, so that products cannot overflow."""
    tp, fp, tn, fn = (float(outcomes[name]) for name in (Outcome.TP, Outcome.FP, Outcome.TN, Outcome.FN))
    precision, recall = tp / (tp + fp + _PAIR_EPS), tp / (tp + fn + _PAIR_EPS)
    margins = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return {
        "il_precision": precision,
        "il_recall": recall,
        "il_f1": _f1(precision, recall, _PAIR_EPS),
        "il_fpr": fp / (fp + tn + _PAIR_EPS),
        "il_mcc": (tp * tn - fp * fn) / (math.sqrt(margins) + _PAIR_EPS),
    }
