"""Values that change during training: learning rates and weight decay as functions of the step.

A schedule is called with the number of optimiser steps done so far and the number of the whole
training. Schedules of ``fvcore.common.param_scheduler``, functions of the fraction done, serve as
well (:func:`value_at`). Source: ``spec/training.md`` 4.1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from sam3.errors import ConfigError


class Schedule(ABC):
    """A number that depends on how far the training is."""

    @abstractmethod
    def __call__(self, step: int, total_steps: float) -> float:
        """Value used by the optimiser step after ``step`` finished ones, of ``total_steps`` in all."""


AnySchedule = Schedule | Callable[[float], float]
"""One of ours, or a function of the fraction of the training done, in [0, 1)."""


def value_at(schedule: AnySchedule, step: int, total_steps: float) -> float:
    """Value of either kind of schedule."""
    if isinstance(schedule, Schedule):
        return schedule(step, total_steps)
    return schedule(step / total_steps if total_steps else 0.0)


@dataclass(frozen=True, kw_only=True)
class ConstantSchedule(Schedule):
    """Always ``value``."""

    value: float

    def __call__(self, step: int, total_steps: float) -> float:
        return self.value


@dataclass(frozen=True, kw_only=True)
class InverseSquareRootSchedule(Schedule):
    """Linear warm-up, decay with 1 / sqrt(steps since), linear cool-down to 0 at the end.

    The first optimiser step has the value 0 and moves nothing, as in the released training, unless
    ``warmup_from`` is above 0.
    """

    base_lr: float
    warmup_steps: int
    cooldown_steps: int
    timescale: int
    """Steps after the warm-up until the value has fallen to base_lr / sqrt(2)."""
    warmup_from: int = 0
    """Warm-up step that the training starts at; 1 makes the first step base_lr / warmup_steps."""

    def __post_init__(self) -> None:
        _require_at_least(self, 0, "base_lr", "warmup_steps", "cooldown_steps", "warmup_from")
        _require_at_least(self, 1, "timescale")

    def __call__(self, step: int, total_steps: float) -> float:
        value = self.base_lr
        if step > self.warmup_steps:
            value /= math.sqrt((step - self.warmup_steps + self.timescale) / self.timescale)
        if self.warmup_steps:
            value *= min(1.0, (step + self.warmup_from) / self.warmup_steps)
        if self.cooldown_steps:
            value *= min(1.0, max(0.0, total_steps - step) / self.cooldown_steps)
        return value


@dataclass(frozen=True, kw_only=True)
class WarmupLinearSchedule(Schedule):
    """For short runs: linear warm-up, constant, then linear to ``end_factor * base_lr`` at the last step."""

    base_lr: float
    warmup_steps: int = 0
    decay_from: float = 0.5
    """Fraction of the training after which the value falls."""
    end_factor: float = 0.02

    def __post_init__(self) -> None:
        _require_at_least(self, 0, "base_lr", "warmup_steps", "end_factor")
        if not 0 <= self.decay_from <= 1:
            raise ConfigError(f"WarmupLinearSchedule.decay_from must lie in [0, 1], got {self.decay_from}")

    def __call__(self, step: int, total_steps: float) -> float:
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        first, last = self.decay_from * total_steps, max(1.0, total_steps - 1)
        fallen = 0.0 if step <= first else min(1.0, (step - first) / max(1e-9, last - first))
        return self.base_lr * warmup * (1 - fallen * (1 - self.end_factor))


@dataclass(frozen=True, kw_only=True)
class ScaledSchedule(Schedule):
    """Another schedule times ``factor``."""

    schedule: AnySchedule
    factor: float

    def __call__(self, step: int, total_steps: float) -> float:
        return self.factor * value_at(self.schedule, step, total_steps)


def _require_at_least(schedule: Schedule, least: int, *names: str) -> None:
    for name in names:
        value = getattr(schedule, name)
        if not value >= least:
            raise ConfigError(f"{type(schedule).__name__}.{name} must be at least {least}, got {value}")
