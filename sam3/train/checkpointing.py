"""Writing checkpoints: the rolling file that continues a run exactly, and the exports that people use.

``last.pt`` is always complete and fp32. ``best.pt`` and ``checkpoint_<k>.pt`` are exports, shaped by
``save_model_only`` and ``save_fp16``; training of adapters puts ``<name>_adapter.safetensors`` beside each. Files
appear whole or not at all.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sam3.errors import CheckpointError
from sam3.io.adapter_file import write_adapter
from sam3.io.checkpoint import ModelCard, in_precision, save_weights
from sam3.io.files import atomic_path
from sam3.train import distributed
from sam3.train.engine import whole_weights
from sam3.train.meters import GIGABYTE, RunningMeans
from sam3.train.optim.optimizer import ScheduledOptimizer
from sam3.train.progress import Progress
from sam3.train.reproducibility import random_state
from sam3.train.schema import CheckpointConfig
from sam3.train.tuning import AdapterPlan
from sam3.train.weight_average import WeightAverage

_log = logging.getLogger(__name__)

FORMAT = "sam3-training-1"
LAST, BEST = "last.pt", "best.pt"

# A full disk is a RuntimeError of torch's archive writer, whose message depends on where the disk was full:
# "inline_container.cc: unexpected pos 128 vs 0", "iostream error", "failed writing file".
_WRITER_WORDS = ("inline_container", "iostream", "writ")


@dataclass
class RunState:
    """Everything that training changes, gathered in one place for saving and resuming."""

    model: nn.Module
    optimizer: ScheduledOptimizer
    scaler: torch.amp.GradScaler
    progress: Progress
    means: RunningMeans  # of the epoch being trained
    average: WeightAverage | None = None

    def weights(self) -> dict[str, Tensor]:
        """Whole tensors on the main process; called by all processes."""
        return whole_weights(self.model)

    def to_dict(self) -> dict[str, Any]:
        """Without the weights, whole on the main process; called by all processes."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": self.progress.to_dict(),
            "means": self.means.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "random": distributed.gather_objects(random_state()),
        }

    def averaged(self) -> AbstractContextManager[None]:
        """Within the block the model has its averaged weights, if they are kept."""
        return nullcontext() if self.average is None else self.average.applied()


class Checkpointer:
    """Knows when and where each file of a run is written.

    Args:
        settings: what to save.
        card: what every file says about the model; epoch and metric are filled in when saving.
        origin: what a later restart compares with: resolved configuration, digests, file the run descends from.
        adapter: which tensors are the adapter of the run, if it trains one.
    """

    def __init__(
        self,
        settings: CheckpointConfig,
        card: ModelCard,
        origin: Mapping[str, Any],
        adapter: AdapterPlan | None = None,
    ) -> None:
        self.settings = settings
        self.card = card
        self.origin = dict(origin)
        self.adapter = adapter
        self.folder = Path(settings.save_dir)
        self._failed_saves = 0  # in a row

    @property
    def last(self) -> Path:
        """The rolling file."""
        return self.folder / LAST

    def epoch_file(self, epoch: int) -> Path:
        """Export after ``epoch`` finished epochs."""
        return self.folder / f"checkpoint_{epoch}.pt"

    def is_due_after_step(self, progress: Progress) -> bool:
        """Whether the rolling file is written in the middle of an epoch."""
        every = self.settings.save_every_steps
        return every > 0 and progress.step_in_epoch > 0 and progress.steps % every == 0

    def is_export_due(self, epoch: int) -> bool:
        """Whether ``epoch`` finished epochs are exported and that has not happened yet."""
        listed = epoch in self.settings.save_epochs
        regular = self.settings.save_freq > 0 and epoch % self.settings.save_freq == 0
        # One process looks: another might find the file that this one has just written.
        missing = distributed.any_true(distributed.is_main() and not self.epoch_file(epoch).exists())
        return (listed or regular) and epoch > 0 and missing

    def save_last(self, state: RunState, *, or_stop: bool = True) -> None:
        """Write the rolling file; called by all processes, as :meth:`export` is, and done when they come back.

        Args:
            or_stop: False = when the disk refuses, the earlier file stays and the run goes on to its next save, unless
                that happened ``failed_saves_limit`` times in a row.

        Raises:
            CheckpointError: the file cannot be written; in all processes.
        """
        error = None
        try:
            self._write_complete(self.last, state, state.weights())
        except CheckpointError as caught:
            error = caught
        if not distributed.any_true(error is not None):
            self._failed_saves = 0
            return
        self._failed_saves += 1
        error = error or CheckpointError(f"process 0 cannot write {self.last}; its log says why")
        if or_stop or self._failed_saves >= self.settings.failed_saves_limit:
            raise error
        _log.error(
            "%s. The run goes on and saves again when it is due next; %d failed saves in a row end it, this was number "
            "%d (trainer.checkpoint.failed_saves_limit)",
            error,
            self.settings.failed_saves_limit,
            self._failed_saves,
        )

    def export(self, path: Path, state: RunState) -> None:
        """Write a file for use elsewhere."""
        weights = state.weights()
        if self.settings.save_model_only:
            dtype = "fp16" if self.settings.save_fp16 else "fp32"
            if distributed.is_main():
                with disk_errors_named(path):
                    save_weights(path, weights, self._card(state.progress), dtype=dtype)
        else:
            if self.settings.save_fp16:
                weights = {name: in_precision(name, tensor, "fp16") for name, tensor in weights.items()}
            self._write_complete(path, state, weights)
        if self.adapter is not None and distributed.is_main():
            self._export_adapter(path.with_name(f"{path.stem}_adapter.safetensors"), weights, state.progress)
        distributed.barrier()
        _log.info("wrote %s", path)

    def _export_adapter(self, path: Path, weights: Mapping[str, Tensor], progress: Progress) -> None:
        with disk_errors_named(path):
            write_adapter(path, self.adapter.adapter(weights, self._card(progress)))

    def _write_complete(self, path: Path, state: RunState, weights: Mapping[str, Tensor]) -> None:
        content = {
            "format": FORMAT,
            "model": dict(weights),
            "card": self._card(state.progress).to_dict(),
            "origin": self.origin,
            **state.to_dict(),
        }
        if distributed.is_main():
            with disk_errors_named(path), atomic_path(path) as temporary:
                torch.save(content, temporary)

    def _card(self, progress: Progress) -> ModelCard:
        measured = progress.last_metric_epoch == progress.epoch and progress.step_in_epoch == 0
        metric = {progress.metric_name: progress.last_metric} if measured else {}
        return replace(self.card, epoch=progress.epoch, metric=metric)


@contextmanager
def disk_errors_named(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing ``path`` into a message that says what to do."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in _WRITER_WORDS):
            raise  # not ours to explain
        raise CheckpointError(
            f"cannot write {path}: {str(error).splitlines()[0]} ({free_space(path)}). The earlier file "
            "is unharmed: make room (or give another paths.experiment_log_dir) and start the same command again"
        ) from error


def free_space(path: Path) -> str:
    """How much room the disk of ``path`` has, in words."""
    folder = next((parent for parent in path.parents if parent.is_dir()), Path.cwd())
    return f"{shutil.disk_usage(folder).free / GIGABYTE:.1f} GiB free in {folder}"
