"""How sure a score is, and whether two prediction files differ: pictures (or videos) are drawn anew, not pairs.

Phrases of one picture or video stand or fall together, so it is the unit of chance (cluster bootstrap: Field and
Welsh, 2007). Two files are compared on the same pictures (paired), and the test exchanges them picture by picture
(Fisher-Pitman permutation test).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sam3.eval.cgf1 import IOU_THRESHOLDS, Outcome
from sam3.eval.error_analysis import PairErrors

_NUM = len(IOU_THRESHOLDS)
_EPS, _PAIR_EPS = 1e-4, 1e-6  # as in sam3.eval.cgf1
_OUTCOMES = (Outcome.TP, Outcome.FP, Outcome.TN, Outcome.FN)
_DRAWS_AT_ONCE = 50


def _cgf1(sums: np.ndarray) -> np.ndarray:
    """(draws, 34) sums -> (draws,) mean cgF1 (spec/evaluation.md 2.5)."""
    tp, fp, fn = (sums[:, part * _NUM : (part + 1) * _NUM] for part in range(3))
    precision, recall = tp / (tp + fp + _EPS), tp / (tp + fn + _EPS)
    f1 = 2 * precision * recall / (precision + recall + _EPS)
    pairs_tp, pairs_fp, pairs_tn, pairs_fn = sums[:, 3 * _NUM :].T
    margins = (pairs_tp + pairs_fp) * (pairs_tp + pairs_fn) * (pairs_tn + pairs_fp) * (pairs_tn + pairs_fn)
    mcc = (pairs_tp * pairs_tn - pairs_fp * pairs_fn) / (np.sqrt(margins) + _PAIR_EPS)
    return f1.mean(axis=1) * mcc


@dataclass(frozen=True)
class CountTable:
    """What a score is computed from, summed over the pairs of each picture or video.

    ``counts`` of cgF1: (pictures, 34) float64: hits, positive false positives and false negatives at the 10 IoU
    thresholds, then the pairs of each outcome (TP, FP, TN, FN).
    """

    counts: np.ndarray  # (pictures, K)
    score_of: Callable[[np.ndarray], np.ndarray] = _cgf1  # (draws, K) sums -> (draws,)

    def __len__(self) -> int:
        return len(self.counts)

    def score(self) -> float:
        """Of all pictures together."""
        return float(self.score_of(self.counts.sum(axis=0)[None])[0])


def count_table(errors: Iterable[PairErrors], picture_of: dict[int, int], num_pictures: int) -> CountTable:
    """
    Args:
        picture_of: pair id -> index of its picture, 0 .. num_pictures - 1.
    """
    counts = np.zeros((num_pictures, 3 * _NUM + 4))
    for pair in errors:
        row = counts[picture_of[pair.pair_id]]
        hits = np.count_nonzero(pair.ious[:, None] >= IOU_THRESHOLDS, axis=0) if len(pair.ious) else np.zeros(_NUM)
        if pair.num_objects:
            row[:_NUM] += hits
            row[_NUM : 2 * _NUM] += pair.num_predictions - hits
            row[2 * _NUM : 3 * _NUM] += pair.num_objects - hits
        row[3 * _NUM + _OUTCOMES.index(pair.outcome)] += 1
    return CountTable(counts)


@dataclass(frozen=True)
class Interval:
    """A score and where it would lie with other pictures of the same kind."""

    score: float
    low: float
    high: float
    level: float  # share of the draws between low and high


def bootstrap(table: CountTable, *, draws: int = 2000, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile interval of the score over pictures drawn with replacement."""
    scores = np.concatenate([table.score_of(weights @ table.counts) for weights in _drawn(len(table), draws, seed)])
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return Interval(table.score(), float(low), float(high), level)


@dataclass(frozen=True)
class PairedDifference:
    """Second file minus first file, on the same pictures."""

    difference: float
    low: float
    high: float
    level: float
    p_value: float  # two-sided: how often files exchanged by chance differ at least as much


def compare(
    first: CountTable, second: CountTable, *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> PairedDifference:
    """Whether ``second`` is better than ``first``; both have one row for each picture, in the same order."""
    if len(first) != len(second):
        raise ValueError(f"the tables have {len(first)} and {len(second)} pictures; they must be the same")
    observed = second.score() - first.score()
    resampled = np.concatenate(
        [
            first.score_of(weights @ second.counts) - first.score_of(weights @ first.counts)
            for weights in _drawn(len(first), draws, seed)
        ]
    )
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    as_large = np.count_nonzero(np.abs(_exchanged(first, second, draws, seed)) >= abs(observed) - 1e-12)
    return PairedDifference(observed, float(low), float(high), level, float((as_large + 1) / (draws + 1)))


def _exchanged(first: CountTable, second: CountTable, draws: int, seed: int) -> np.ndarray:
    """(draws,) differences after exchanging the files of each picture with probability 1/2."""
    rng = np.random.default_rng([seed, 1])
    change, total = second.counts - first.counts, first.counts.sum(axis=0) + second.counts.sum(axis=0)
    results = []
    for start in range(0, draws, _DRAWS_AT_ONCE):
        swapped = rng.integers(0, 2, (min(_DRAWS_AT_ONCE, draws - start), len(first))).astype(float)
        sums = first.counts.sum(axis=0) + swapped @ change
        results.append(first.score_of(total - sums) - first.score_of(sums))
    return np.concatenate(results)


def _drawn(num_pictures: int, draws: int, seed: int) -> Iterable[np.ndarray]:
    """Blocks (draws, pictures) of how often each picture is drawn."""
    rng = np.random.default_rng([seed, 0])
    for start in range(0, draws, _DRAWS_AT_ONCE):
        count = min(_DRAWS_AT_ONCE, draws - start)
        chosen = rng.integers(0, num_pictures, (count, num_pictures))
        yield np.stack([np.bincount(row, minlength=num_pictures) for row in chosen]).astype(float)
