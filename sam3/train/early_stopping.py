"""Ends a run whose validation metric no longer grows."""

import logging

from sam3.train.progress import Progress
from sam3.train.schema import EarlyStoppingConfig

_log = logging.getLogger(__name__)


class EarlyStopping:
    """Counts validations without progress.

    Args:
        settings: how long to wait for how much; None = never stop.
        progress: keeps the count, so that it survives a restart.
    """

    def __init__(self, settings: EarlyStoppingConfig | None, progress: Progress) -> None:
        self.settings = settings
        self.progress = progress

    def update(self, metric: float) -> None:
        """Call after each validation, larger is better."""
        progress, reference = self.progress, self.progress.growth_reference
        if self.settings is None:
            return
        if reference is None or metric > reference + self.settings.min_delta:
            progress.growth_reference, progress.validations_without_growth = metric, 0
        else:
            progress.validations_without_growth += 1
        if self.is_due:
            _log.info(
                "no growth of %s above %g in %d validations: training ends after epoch %d",
                progress.metric_name,
                self.settings.min_delta,
                self.settings.patience,
                progress.epoch,
            )

    @property
    def is_due(self) -> bool:
        """Whether the run should end."""
        return self.settings is not None and self.progress.validations_without_growth >= self.settings.patience
