"""Exponential moving average of the weights: steadier than the weights of any single step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sam3.train.engine import part_like, whole

NO_AVERAGES: Mapping[str, Any] = {"updates": 0, "averages": {}, "applied": False}


class WeightAverage:
    """Follows the weights that learn: ``average = d * average + (1 - d) * weights`` after every step.

    ``d`` grows from 0.1 towards ``decay``, as ``min(decay, (1 + n) / (10 + n))`` at step n, so that a short run does
    not end with the average of its beginning.

    Args:
        model: its parameters with ``requires_grad`` are averaged; the others never change.
        decay: in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.is_applied = False  # the model has the averages, and this object the weights that learn
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._averages = {name: p.detach().clone() for name, p in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Call after each step that changed the weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, weights in self._weights.items():
            self._averages[name].lerp_(weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averages for weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        # In place, one parameter at a time: whatever else refers to a parameter keeps doing so.
        for name, weights in self._weights.items():
            own = weights.clone()
            weights.copy_(self._averages[name])
            self._averages[name].copy_(own)
        self.is_applied = not self.is_applied

    def state_dict(self) -> dict[str, Any]:
        """An export is written while the averages are applied; it holds the weights that learn all the same."""
        averages = {name: whole(average) for name, average in self._averages.items()}
        return {"updates": self.updates, "averages": averages, "applied": self.is_applied}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`, after the model has the weights of the same file.

        Averages that the file does not have, as these weights did not learn then, begin with the weights.
        """
        self.updates = state["updates"]
        averages: Mapping[str, Tensor] = state["averages"]
        for name, own in self._averages.items():
            own.copy_(part_like(averages[name], own) if name in averages else self._weights[name])
        if state["applied"]:
            self.is_applied = True
            self._swap()
