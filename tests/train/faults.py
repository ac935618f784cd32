"""Parts that fail on purpose, named by ``_target_`` in tests."""

import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sam3.train import distributed
from sam3.train.callbacks import Callback


@dataclass
class NanLoss:
    """A loss term that is not a number in steps ``first`` .. ``last`` - 1, of process ``rank`` or of all."""

    first: int
    last: int
    rank: int | None = None
    weights: Mapping[str, float] = field(default_factory=lambda: {"loss_broken": 1.0})
    on_every_layer: bool = False
    calls: int = 0

    def __call__(self, predictions, targets, matches, num_boxes) -> dict[str, torch.Tensor]:
        # The last layer has two branches, one-to-one and one-to-many: one step is two calls.
        step, self.calls = self.calls // 2, self.calls + 1
        is_meant = self.rank in (None, distributed.rank())
        factor = float("nan") if is_meant and self.first <= step < self.last else 0.0
        return {"loss_broken": predictions.boxes.sum() * factor}


class KillAtStep(Callback):
    """``kill -9`` of this very process after a step of the run."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer, result) -> None:
        if trainer.progress.steps == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class SignalAtStep(Callback):
    """A signal to this very process, or to its whole process group, after a step of the run."""

    def __init__(self, step: int, name: str = "SIGTERM", group: bool = False) -> None:
        self.step, self.number, self.group = step, getattr(signal, name), group

    def on_step_end(self, trainer, result) -> None:
        if trainer.progress.steps == self.step:
            (os.killpg if self.group else os.kill)(os.getpgid(0) if self.group else os.getpid(), self.number)


class FailInRank(Callback):
    """An error of ours in one process, after a step of the run."""

    def __init__(self, step: int, rank: int) -> None:
        self.step, self.rank = step, rank

    def on_step_end(self, trainer, result) -> None:
        if (trainer.progress.steps, distributed.rank()) == (self.step, self.rank):
            raise RuntimeError(f"fault of process {self.rank}")


class FullDisk(Callback):
    """Takes the room of the run's disk after step ``first`` and gives it back after step ``last``."""

    def __init__(self, first: int, last: int, leave: int) -> None:
        self.first, self.last, self.leave = first, last, leave

    def on_step_end(self, trainer, result) -> None:
        disk = next(path for path in trainer.checkpointer.folder.parents if path.is_mount())
        if trainer.progress.steps == self.first:
            with open(disk / "filler", "wb") as file:
                file.write(bytes(shutil.disk_usage(disk).free - self.leave))
        elif trainer.progress.steps == self.last:
            (disk / "filler").unlink()


class HoldAtStep(Callback):
    """Waits after a step until the process is asked to end; only once, as the file ``marker`` remembers."""

    def __init__(self, step: int, marker: str) -> None:
        self.step, self.marker = step, Path(f"{marker}_{distributed.rank()}")

    def on_step_end(self, trainer, result) -> None:
        if trainer.progress.steps != self.step or self.marker.exists():
            return
        self.marker.touch()
        end = time.monotonic() + 120
        while trainer.stop.received is None and time.monotonic() < end:
            time.sleep(0.05)


class Stop(Callback):
    """An exception like a crash, within this process: after a step, at the end of an epoch, after its validation."""

    def __init__(self, at: str, number: int) -> None:
        self.at, self.number = at, number

    def on_step_end(self, trainer, result) -> None:
        self._stop("step", trainer.progress.steps)

    def on_epoch_end(self, trainer, means) -> None:
        self._stop("epoch", trainer.progress.epoch)

    def on_validation_end(self, trainer, result) -> None:
        self._stop("validation", trainer.progress.epoch)

    def _stop(self, at: str, number: int) -> None:
        if (at, number) == (self.at, self.number):
            raise KeyboardInterrupt


class Recorder(Callback):
    """Writes down what is called; all recorders of a test share ``events``."""

    events: list[str] = []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda *_: Recorder.events.append(name)
        return super().__getattribute__(name)


class Crash(Callback):
    """One process fails after a step: it raises, or is gone without a word."""

    def __init__(self, step: int, rank: int, how: str) -> None:
        self.step, self.rank, self.how = step, rank, how

    def on_step_end(self, trainer, result) -> None:
        if (trainer.progress.steps, distributed.rank()) != (self.step, self.rank):
            return
        (trainer.checkpointer.folder.parent / "crashed").write_text(str(time.time()))
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("the roof is on fire")
