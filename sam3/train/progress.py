"""How far a run is: everything the loop counts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Progress:
    """Counters of a run; part of every complete checkpoint."""

    epoch: int = 0  # finished epochs = index of the epoch being trained
    step_in_epoch: int = 0  # finished steps of that epoch
    steps: int = 0  # finished optimiser steps of the run
    steps_val: int = 0  # validation batches seen
    seconds: float = 0.0  # time spent in training and validation, over all restarts
    nonfinite_in_a_row: int = 0
    nonfinite_steps: int = 0  # skipped steps of the whole run
    pending_validation: bool = False  # the last finished epoch is due for validation
    metric_name: str | None = None
    last_metric: float | None = None
    last_ap: float | None = None  # beside the metric, where that is cgF1
    last_metric_epoch: int | None = None  # finished epochs when it was measured
    best_metric: float | None = None
    best_epoch: int | None = None  # finished epochs when it was reached
    growth_reference: float | None = None  # metric that early stopping compares with
    validations_without_growth: int = 0
    best_ap: float = -1.0  # of the best, decides between equal metrics
    best_is_within_drift: bool = True  # it did not exceed the drift limit

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Progress":
        """Inverse of :meth:`to_dict`; counters that an older file lacks start at their defaults."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})
