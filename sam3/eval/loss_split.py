"""What each kind of error costs: its Shapley value.

The cost of a kind is what the score gains when the errors of this kind are put right, averaged over all orders in
which the kinds can be put right. So the costs add up to (score without any error) - score exactly, and kinds without
errors cost nothing.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class LossSplit:
    """What each kind of error costs; every vector is per IoU threshold, (A,)."""

    score: np.ndarray
    costs: dict[Enum, np.ndarray]
    rest: np.ndarray  # of 1, beyond the reach of any correction

    @cached_property
    def mean_costs(self) -> dict[Enum, float]:
        """Means over the thresholds: with the mean of ``rest`` they add up to 1 - the mean score."""
        return {kind: float(cost.mean()) for kind, cost in self.costs.items()}


def split_by_kind(kinds: Iterable[Enum], score: Callable[[Iterable[Enum]], np.ndarray]) -> LossSplit:
    """The Shapley value of every kind.

    Args:
        kinds: of errors.
        score: (A,) the score if all errors of some kinds had not been made.
    """
    kinds = tuple(kinds)
    scores = {frozenset(right): score(right) for right in _subsets(kinds)}
    costs = {
        kind: sum(
            _weight(len(before), len(kinds)) * (scores[frozenset({*before, kind})] - scores[frozenset(before)])
            for before in _subsets([other for other in kinds if other is not kind])
        )
        for kind in kinds
    }
    return LossSplit(score=scores[frozenset()], costs=costs, rest=1 - scores[frozenset(kinds)])


def _subsets(kinds: Sequence[Enum]) -> Iterable[tuple[Enum, ...]]:
    return (subset for size in range(len(kinds) + 1) for subset in combinations(kinds, size))


def _weight(before: int, count: int) -> float:
    """Share of all orders in which exactly a given set of ``before`` kinds comes first."""
    return math.factorial(before) * math.factorial(count - before - 1) / math.factorial(count)
