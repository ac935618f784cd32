"""What the criterion expects of a loss term, and how the components of a term become one number."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from torch import Tensor

from sam3.errors import ConfigError
from sam3.structures import QueryPredictions, Targets
from sam3.train.matcher import Matches


class LossTerm(Protocol):
    """A loss of one set of queries: scalar components by name.

    Components named in ``weights`` are summed into the total, the others are only logged.
    """

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each component in the total; 0 = logged only."""
        ...

    @property
    def on_every_layer(self) -> bool:
        """False: counted on the last decoder layer only."""
        ...

    def __call__(
        self, predictions: QueryPredictions, targets: Targets, matches: Matches, num_boxes: Tensor
    ) -> dict[str, Tensor]:
        """Components, not yet weighted; sums over objects are divided by ``num_boxes``."""
        ...


def weighted_sum(components: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor | float:
    """Sum of the components that have a weight other than 0; a component the term left out counts 0."""
    return sum((weight * components[name] for name, weight in weights.items() if weight and name in components), 0.0)


def require_known_weights(term: str, weights: Mapping[str, float], known: Collection[str]) -> None:
    """Refuse a weight of a component that the term does not have."""
    unknown = [name for name in weights if name not in known]
    if unknown:
        raise ConfigError(f"{term}.weights names {unknown[0]!r}; it has {', '.join(sorted(known))}")
