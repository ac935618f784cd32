"""HOTA of one class: are objects detected, and does each keep its identity?

Pure functions on arrays. Legend: F frames, G annotated tracks, P predicted tracks, A = 19 localisation thresholds.
Source: spec/evaluation.md 3.5, steps 4 to 6.
"""

from dataclasses import astuple, dataclass, field, fields
from typing import NamedTuple

import numpy as np

from sam3.eval.video_matching import EPS, Matches, alignment, assign_frames

ALPHAS = np.arange(0.05, 0.99, 0.05)

_NOTHING = 1e-10  # keeps LocA at 1 where nothing was matched


def _zeros() -> np.ndarray:
    return np.zeros(len(ALPHAS))


@dataclass(frozen=True)
class Hota:
    """The nine numbers, in [0, 1], each the mean over the thresholds."""

    hota: float
    det_a: float
    ass_a: float
    det_re: float
    det_pr: float
    ass_re: float
    ass_pr: float
    loc_a: float
    owta: float

    def to_dict(self, prefix: str = "") -> dict[str, float]:
        """Keys ``<prefix><name>`` with the published names, in their order."""
        return {prefix + name: value for name, value in zip(NAMES, astuple(self), strict=True)}


NAMES = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "OWTA")
assert len(NAMES) == len(fields(Hota)), "one published name for each number"


@dataclass(frozen=True)
class HotaCounts:
    """One sequence, or several combined; vectors have one value per threshold, (A,)."""

    tp: np.ndarray = field(default_factory=_zeros)
    fn: np.ndarray = field(default_factory=_zeros)
    fp: np.ndarray = field(default_factory=_zeros)
    # Means over true positives, times the number of true positives, so that they add up.
    ass_a: np.ndarray = field(default_factory=_zeros)
    ass_re: np.ndarray = field(default_factory=_zeros)
    ass_pr: np.ndarray = field(default_factory=_zeros)
    loc_a: np.ndarray = field(default_factory=_zeros)

    def __add__(self, other: "HotaCounts") -> "HotaCounts":
        return HotaCounts(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    def hota(self) -> np.ndarray:
        """(A,) HOTA at each threshold."""
        det_a = self.tp / np.maximum(1.0, self.tp + self.fn + self.fp)
        return np.sqrt(det_a * (self.ass_a / np.maximum(1.0, self.tp)))

    def result(self) -> Hota:
        """The rates (steps 5 and 6): association and localisation weighted by true positives."""
        tp, fn, fp = self.tp, self.fn, self.fp
        matched = np.maximum(1.0, tp)
        det_a, det_re, det_pr = (tp / np.maximum(1.0, tp + rest) for rest in (fn + fp, fn, fp))
        ass_a, ass_re, ass_pr = (value / matched for value in (self.ass_a, self.ass_re, self.ass_pr))
        loc_a = np.maximum(_NOTHING, self.loc_a) / np.maximum(_NOTHING, tp)
        vectors = (self.hota(), det_a, ass_a, det_re, det_pr, ass_re, ass_pr, loc_a, np.sqrt(det_re * ass_a))
        return Hota(*(float(vector.mean()) for vector in vectors))


class Tally(NamedTuple):
    """What is counted of the tracks of one sequence."""

    pairs: np.ndarray  # (A, G, P) number of frames in which two tracks are matched
    similarity: np.ndarray  # (A,) sum of their similarities
    truth_frames: np.ndarray  # (G,) frames of each annotated track
    prediction_frames: np.ndarray  # (P,) frames of each predicted track


def count_sequence(similarity: np.ndarray, truth_present: np.ndarray, prediction_present: np.ndarray) -> HotaCounts:
    """Counts of one sequence of one class.

    Args:
        similarity: (F, G, P) IoU; what it says of absent tracks does not count.
        truth_present: (F, G) bool.
        prediction_present: (F, P) bool.
    """
    return counts_of(tally_sequence(similarity, truth_present, prediction_present))


def counts_of(tally: Tally) -> HotaCounts:
    """Matches and their association, summed over the tracks."""
    num_truths, num_predictions = float(tally.truth_frames.sum()), float(tally.prediction_frames.sum())
    if not num_truths or not num_predictions:
        return HotaCounts(fn=_zeros() + num_truths, fp=_zeros() + num_predictions)
    tp = tally.pairs.sum(axis=(1, 2))
    association = associate(tally.pairs, tally.truth_frames, tally.prediction_frames)
    return HotaCounts(tp, num_truths - tp, num_predictions - tp, *association, tally.similarity)


def tally_sequence(similarity: np.ndarray, truth_present: np.ndarray, prediction_present: np.ndarray) -> Tally:
    """Which tracks of a sequence are matched how often; the arguments are those of :func:`count_sequence`."""
    frames = truth_present.sum(axis=0), prediction_present.sum(axis=0)
    if not frames[0].sum() or not frames[1].sum():
        nothing = np.zeros((len(ALPHAS), *similarity.shape[1:]), dtype=np.int64)
        return Tally(nothing, _zeros(), *frames)
    similarity = similarity * (truth_present[:, :, None] & prediction_present[:, None])
    scores = alignment(similarity, truth_present, prediction_present) * similarity
    matches = assign_frames(scores, truth_present, prediction_present)
    return Tally(*count_matches(matches, similarity, ALPHAS), *frames)


class Counted(NamedTuple):
    """Matches that reach each of A thresholds."""

    pairs: np.ndarray  # (A, G, P) number of frames in which two tracks are matched
    similarity: np.ndarray  # (A,) sum of their similarities


def count_matches(matches: Matches, similarity: np.ndarray, thresholds: np.ndarray) -> Counted:
    """Matches with a similarity of at least each of the ascending ``thresholds``, up to rounding."""
    found = similarity[matches]
    reached = (found[:, None] >= thresholds - EPS).sum(axis=1)  # the first so many thresholds
    rows = np.ravel_multi_index(
        (reached, matches.truths, matches.predictions), (len(thresholds) + 1, *similarity.shape[1:])
    )
    pairs = np.bincount(rows, minlength=(len(thresholds) + 1) * similarity[0].size)
    pairs = pairs.reshape(len(thresholds) + 1, *similarity.shape[1:])
    sums = np.bincount(reached, weights=found, minlength=len(thresholds) + 1)
    return Counted(_from_above(pairs), _from_above(sums))


def associate(pairs: np.ndarray, truth_frames: np.ndarray, prediction_frames: np.ndarray) -> tuple[np.ndarray, ...]:
    """AssA, AssRe and AssPr, each summed over true positives, (A,).

    Args:
        pairs: (A, G, P) frames in which two tracks are matched.
        truth_frames: (G,) frames of each annotated track.
        prediction_frames: (P,) frames of each predicted track.
    """
    truths, predictions = truth_frames[None, :, None], prediction_frames[None, None]
    return tuple(
        (pairs * (pairs / np.maximum(1, frames))).sum(axis=(1, 2))
        for frames in (truths + predictions - pairs, truths, predictions)
    )


def _from_above(counts: np.ndarray) -> np.ndarray:
    """From entries that reach exactly n thresholds to entries that reach at least the first, the second, ..."""
    return counts[::-1].cumsum(axis=0)[::-1][1:]
