"""Keeps ``report.html`` of a run up to date while it trains.

Training must not import what stands above it, so it names this class in its configuration (``logging.report``) and
builds it like any other part.
"""

import logging
from pathlib import Path

from sam3.report.training_report import write_training_report
from sam3.train import distributed
from sam3.train.callbacks import Callback
from sam3.train.trainer import Trainer
from sam3.train.validation import ValidationResult

_log = logging.getLogger(__name__)


class ReportCallback(Callback):
    """Writes the report after each validation and at the end; what goes wrong there never stops a run.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_validation_end(self, trainer: Trainer, result: ValidationResult) -> None:
        self._write()

    def on_train_end(self, trainer: Trainer) -> None:
        path = self._write()
        if path is not None:
            _log.info("report: %s", path)

    def _write(self) -> Path | None:
        if not distributed.is_main():
            return None
        try:
            return write_training_report(self.folder)
        except Exception as error:  # the run is worth more than its report
            _log.warning("the report was not written: %s: %s", type(error).__name__, error)
            return None
