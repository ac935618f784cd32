"""Where a run reports: text log, one JSON object a line and epoch, TensorBoard.

Names of curves: spec/training.md 3.7, with validation under ``Meters_val`` (the reference says
``Meters_train`` there) and forward slashes on every system.
"""

import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sam3.errors import ConfigError
from sam3.eval.hits import PrCurve
from sam3.io.files import write_text
from sam3.train.schema import TensorboardConfig

_log = logging.getLogger(__name__)

LINE_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def start_text_log(folder: str | Path | None, level: str = "INFO") -> None:
    """Send the package's messages to stdout and, with a folder, to ``folder/log.txt``, and nowhere twice."""
    stop_text_log()
    logger = logging.getLogger("sam3")
    logger.setLevel(level)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(Path(folder) / "log.txt", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(LINE_FORMAT, datefmt="%Y-%m-%d %H:%M:%S"))
        handler.set_name("sam3 run")
        logger.addHandler(handler)


def stop_text_log() -> None:
    """Undo :func:`start_text_log`."""
    logger = logging.getLogger("sam3")
    for handler in [handler for handler in logger.handlers if handler.get_name() == "sam3 run"]:
        logger.removeHandler(handler)
        handler.close()


class JsonLines:
    """A file of one JSON object a line, each of an epoch."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(self, values: Mapping[str, Any]) -> None:
        """Add a line; JSON knows no NaN and no infinity, they become null."""
        values = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(values, ensure_ascii=False) + "\n")
        except OSError as error:  # a line is worth less than the run
            os.truncate(self.path, before)
            _log.warning("%s lacks a line: %s", self.path, error)

    def read(self) -> list[dict[str, Any]]:
        """All lines; a last line that was cut off by a crash is left out."""
        if not self.path.is_file():
            return []
        lines = []
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                _log.warning("%s: an incomplete line is left out", self.path)
        return lines

    def forget_from(self, epoch: int) -> None:
        """Drop lines of epochs that will be run again (``Trainer/epoch`` >= ``epoch``)."""
        if self.path.is_file():
            kept = [line for line in self.read() if line["Trainer/epoch"] < epoch]
            write_text(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


class Curves:
    """TensorBoard, or nothing when it is switched off."""

    def __init__(self, settings: TensorboardConfig, *, first_step: int = 0) -> None:
        """``first_step``: points from here on were written by an interrupted run and are hidden."""
        self._writer = None
        if settings.enabled:
            self._writer = _summary_writer(settings, first_step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        with self._curves_are_expendable():
            for tag, value in values.items() if self._writer else ():
                self._writer.add_scalar(tag, value, step, new_style=True)

    def image(self, tag: str, picture: np.ndarray, step: int) -> None:
        """``picture``: (H, W, 3) uint8."""
        with self._curves_are_expendable():
            if self._writer is not None:
                self._writer.add_image(tag, picture, step, dataformats="HWC")

    def precision_recall(self, tag: str, curve: PrCurve, step: int) -> None:
        """Shown under the tab PR CURVES; the slider moves the score threshold."""
        if self._writer is not None:
            self._writer.add_pr_curve_raw(
                tag,
                true_positive_counts=curve.hits,
                false_positive_counts=curve.false_alarms,
                true_negative_counts=np.zeros_like(curve.hits),  # endless: every place where nothing is
                false_negative_counts=curve.misses,
                precision=curve.precision,
                recall=curve.recall,
                global_step=step,
                num_thresholds=len(curve.thresholds),
            )

    def close(self) -> None:
        with self._curves_are_expendable():
            if self._writer is not None:
                self._writer.close()

    @contextmanager
    def _curves_are_expendable(self) -> Iterator[None]:
        """A full disk ends the curves, not the run."""
        try:
            yield
        except OSError as error:
            _log.error("TensorBoard cannot write (%s): the curves of this start end here", error)
            self._writer = None  # not closed: that would wait for what cannot be written


def _summary_writer(settings: TensorboardConfig, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "curves need the package tensorboard: pip install tensorboard, or set logging.tensorboard.enabled=false"
        ) from error
    return SummaryWriter(settings.log_dir, flush_secs=settings.flush_secs, purge_step=first_step or None)
