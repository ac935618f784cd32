"""Where image cgF1 was lost: kinds of errors, and what each of them costs.

Pairs that ask for an absent phrase can only raise a *false alarm*; pairs whose phrase is there can stay *silent*, and
otherwise their predictions and objects go wrong one by one: poorly *localised*, *missed*, *duplicate*, *spurious*.

The cost of a kind is its Shapley value (:mod:`sam3.eval.loss_split`), so the costs add up to (score without any error)
- score exactly, and kinds without errors cost nothing. What is left to 1 is the definition's own: its epsilons, or,
when no phrase is absent or none is present, an IL_MCC that is 0 whatever is predicted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from sam3.eval.cgf1 import IOU_THRESHOLDS, SCORE_THRESHOLD, Cgf1, Outcome, Pair, PairResult, Totals, judge
from sam3.eval.loss_split import LossSplit, split_by_kind
from sam3.eval.matching import assign, similarity

TOUCH = 0.1  # IoU from which a prediction is about an object, however badly it fits
_NUM = len(IOU_THRESHOLDS)
_NONE = np.zeros(0)


class ErrorKind(Enum):
    """What can go wrong; the first two are decided for a pair as a whole."""

    FALSE_ALARM = "false alarm"  # something is predicted for a phrase that is absent
    SILENCE = "silence"  # nothing is predicted for a phrase that is there
    LOCALISATION = "localisation"  # prediction and object belong together but overlap less than the IoU threshold
    MISS = "miss"  # an object without a prediction, though the phrase was found
    DUPLICATE = "duplicate"  # a further prediction on an object
    SPURIOUS = "spurious"  # a prediction on nothing, though the phrase is there


@dataclass(frozen=True, slots=True)
class PairErrors:
    """One pair, taken apart against the annotator that counts."""

    pair_id: int
    annotator: int  # index of the one that counts
    outcome: Outcome
    num_objects: int
    num_predictions: int
    ious: np.ndarray  # (M,) of predictions and objects that belong together, at least :data:`TOUCH`
    duplicates: int
    spurious: int

    @property
    def misses(self) -> int:
        """Objects without a prediction; 0 where nothing at all was predicted."""
        return self.num_objects - len(self.ious) if self.outcome is Outcome.TP else 0

    def worst_first(self) -> tuple[float, int]:
        """Sorts pairs: the most wrong predictions and objects (averaged over IoU thresholds) first."""
        hits = float(np.mean(np.count_nonzero(self.ious[:, None] >= IOU_THRESHOLDS, axis=0))) if len(self.ious) else 0.0
        return -(self.num_objects + self.num_predictions - 2 * hits), self.pair_id


def take_apart(pair: Pair, score_threshold: float = SCORE_THRESHOLD) -> PairErrors:
    """Judge a pair as cgF1 does, and say what each of its errors is."""
    return _errors(pair, judge(pair, score_threshold), score_threshold)


def _errors(pair: Pair, result: PairResult, score_threshold: float) -> PairErrors:
    judged = result.judgement
    ious, duplicates, spurious = _NONE, 0, 0
    if judged.outcome is Outcome.TP:
        objects = pair.annotators[result.annotator]
        values = similarity(_counted(pair, result.annotator, score_threshold), objects)
        found = assign(values)
        belongs = found.ious >= TOUCH
        ious = found.ious[belongs]
        others = np.delete(values, found.predictions[belongs], axis=0)
        duplicates = int(np.count_nonzero(others.max(axis=1, initial=0.0) >= TOUCH))
        spurious = len(others) - duplicates
    return PairErrors(
        pair_id=pair.pair_id,
        annotator=result.annotator,
        outcome=judged.outcome,
        num_objects=judged.num_objects,
        num_predictions=judged.num_predictions,
        ious=ious,
        duplicates=duplicates,
        spurious=spurious,
    )


def _counted(pair: Pair, annotator: int, score_threshold: float):
    kept = np.asarray(pair.scores) >= score_threshold
    if pair.accepted is not None:
        kept &= pair.accepted[annotator]
    if isinstance(pair.predictions, np.ndarray):
        return pair.predictions[kept]
    return [pair.predictions[index] for index in np.flatnonzero(kept)]


def _zeros() -> np.ndarray:
    return np.zeros(_NUM)


@dataclass
class ErrorCounts:
    """Errors summed over pairs; the score that any set of corrections would give follows from them."""

    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    hits: np.ndarray = field(default_factory=_zeros)  # (10,) well enough localised, per IoU threshold
    poor: np.ndarray = field(default_factory=_zeros)  # (10,) belonging together, localised worse than the threshold
    misses: int = 0
    silent_objects: int = 0
    duplicates: int = 0
    spurious: int = 0

    def add(self, errors: PairErrors) -> None:
        """Count one pair."""
        self.outcomes[errors.outcome] += 1
        if errors.outcome is Outcome.FN:
            self.silent_objects += errors.num_objects
        if len(errors.ious):
            reached = np.count_nonzero(errors.ious[:, None] >= IOU_THRESHOLDS, axis=0)
            self.hits += reached
            self.poor += len(errors.ious) - reached
        self.misses += errors.misses
        self.duplicates += errors.duplicates
        self.spurious += errors.spurious

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return self._combined(other, 1)

    def __sub__(self, other: "ErrorCounts") -> "ErrorCounts":
        return self._combined(other, -1)

    def _combined(self, other: "ErrorCounts", sign: int) -> "ErrorCounts":
        return ErrorCounts(
            outcomes={name: count + sign * other.outcomes[name] for name, count in self.outcomes.items()},
            hits=self.hits + sign * other.hits,
            poor=self.poor + sign * other.poor,
            misses=self.misses + sign * other.misses,
            silent_objects=self.silent_objects + sign * other.silent_objects,
            duplicates=self.duplicates + sign * other.duplicates,
            spurious=self.spurious + sign * other.spurious,
        )

    @property
    def number(self) -> dict[ErrorKind, float]:
        """How often each kind occurs: pairs, objects or predictions; poor localisation as a mean over thresholds."""
        return {
            ErrorKind.FALSE_ALARM: self.outcomes[Outcome.FP],
            ErrorKind.SILENCE: self.outcomes[Outcome.FN],
            ErrorKind.LOCALISATION: float(self.poor.mean()),
            ErrorKind.MISS: self.misses,
            ErrorKind.DUPLICATE: self.duplicates,
            ErrorKind.SPURIOUS: self.spurious,
        }

    def totals(self, corrected: Iterable[ErrorKind] = ()) -> Totals:
        """The sums of cgF1 if all errors of the ``corrected`` kinds had not been made."""
        right = set(corrected)

        def remaining(kind: ErrorKind, amount):
            return 0 * amount if kind in right else amount

        poor = remaining(ErrorKind.LOCALISATION, self.poor)
        silent = remaining(ErrorKind.SILENCE, self.silent_objects)
        quiet = remaining(ErrorKind.SILENCE, self.outcomes[Outcome.FN])
        alarms = remaining(ErrorKind.FALSE_ALARM, self.outcomes[Outcome.FP])
        misses = remaining(ErrorKind.MISS, self.misses)
        extra = remaining(ErrorKind.DUPLICATE, self.duplicates) + remaining(ErrorKind.SPURIOUS, self.spurious)
        found_misses, found_silent = self.misses - misses, self.silent_objects - silent
        return Totals(
            true_positives=self.hits + (self.poor - poor) + found_misses + found_silent,
            positive_false_positives=poor + extra,
            false_negatives=poor + misses + silent,
            outcomes={
                Outcome.TP: self.outcomes[Outcome.TP] + self.outcomes[Outcome.FN] - quiet,
                Outcome.FN: quiet,
                Outcome.FP: alarms,
                Outcome.TN: self.outcomes[Outcome.TN] + self.outcomes[Outcome.FP] - alarms,
            },
        )

    def rates(self, corrected: Iterable[ErrorKind] = ()) -> Cgf1:
        """cgF1, pmF1 and the image-level rates; precision over all pairs is not kept track of here."""
        return self.totals(corrected).result("segm")

    def score(self, corrected: Iterable[ErrorKind] = ()) -> np.ndarray:
        """(10,) cgF1 per IoU threshold."""
        return self.rates(corrected).cgf1


def split_loss(counts: ErrorCounts) -> LossSplit:
    """What each kind of error costs; see :mod:`sam3.eval.loss_split`."""
    return split_by_kind(ErrorKind, counts.score)


def gain_if_perfect(all_counts: ErrorCounts, group: ErrorCounts) -> float:
    """How much cgF1 would rise if the pairs of ``group`` held no error."""
    perfect = ErrorCounts(
        outcomes={
            Outcome.TP: group.outcomes[Outcome.TP] + group.outcomes[Outcome.FN],
            Outcome.TN: group.outcomes[Outcome.TN] + group.outcomes[Outcome.FP],
            Outcome.FP: 0,
            Outcome.FN: 0,
        },
        hits=group.hits + group.poor + group.misses + group.silent_objects,
    )
    return float((all_counts - group + perfect).score().mean() - all_counts.score().mean())
