"""How far a model has moved from the weights it started with, on phrases that nobody trained.

Pure arithmetic. A score is the best detection's, presence included, of one phrase asked of one image.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sam3.eval.cgf1 import SCORE_THRESHOLD
from sam3.eval.concepts import PairKey


@dataclass(frozen=True)
class Drift:
    """Mean absolute change of scores, each in [0, 1]; ``None`` where there is no such pair."""

    found_at_start: float | None  # over the pairs that scored 0.5 or more: what has been forgotten
    silent_at_start: float | None  # over the others: what has become noisy
    pairs: int

    @property
    def value(self) -> float:
        """Mean of the two kinds, so that the many silent pairs do not hide what was forgotten; 0 = unchanged.

        A model that falls silent about everything reaches half of its former scores, so does one that fires at
        everything.
        """
        kinds = [kind for kind in (self.found_at_start, self.silent_at_start) if kind is not None]
        return sum(kinds) / len(kinds)

    def to_dict(self) -> dict[str, float]:
        """``drift`` and the kinds that exist."""
        kinds = {"drift_found_at_start": self.found_at_start, "drift_silent_at_start": self.silent_at_start}
        return {"drift": self.value} | {name: value for name, value in kinds.items() if value is not None}


def drift_between(start: Mapping[PairKey, float], now: Mapping[PairKey, float]) -> Drift | None:
    """The change of the pairs that both hold; ``None`` without any."""
    common = [key for key in start if key in now]
    if not common:
        return None
    found = [abs(now[key] - start[key]) for key in common if start[key] >= SCORE_THRESHOLD]
    silent = [abs(now[key] - start[key]) for key in common if start[key] < SCORE_THRESHOLD]
    return Drift(_mean(found), _mean(silent), len(common))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
