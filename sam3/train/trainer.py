"""The training loop: epochs, steps, and what happens between them."""

import logging
import math
import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor, nn

from sam3.data.collate import split_batch
from sam3.data.loader import Loader
from sam3.structures import Batch, to_device
from sam3.train.batch_dumps import BatchDumps
from sam3.train.best import take_over
from sam3.train.callbacks import Callback
from sam3.train.checkpointing import BEST, Checkpointer, RunState
from sam3.train.early_stopping import EarlyStopping
from sam3.train.engine import own_gradients
from sam3.train.finite_guard import FiniteGuard, NotFiniteError
from sam3.train.losses.criterion import Losses
from sam3.train.losses.normalization import Share, agree_on_shares
from sam3.train.matcher import NonFiniteCostError
from sam3.train.meters import total_of_each
from sam3.train.optim.optimizer import ScheduledOptimizer, clip_gradients
from sam3.train.progress import Progress
from sam3.train.replaced_images import ReplacedImages
from sam3.train.run_log import RunLog
from sam3.train.schema import GradientClipConfig, TrainerConfig
from sam3.train.stop_signals import StoppedBySignal, StopSignals
from sam3.train.validation import ValidationResult, Validator

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepResult:
    """One optimiser step."""

    losses: dict[str, Tensor]  # "loss" and its parts, of the images of all processes, on the device; {} if skipped
    images: int  # of all processes
    gradient_norm: float
    skipped: bool = False  # the loss or the gradient was not finite


@dataclass(frozen=True)
class Precision:
    """Mixed precision of a run."""

    device: torch.device
    dtype: torch.dtype | None  # None = full precision

    def autocast(self) -> AbstractContextManager:
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Scales losses for float16 and does nothing for the others."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)


class Trainer:
    """Trains, validates and saves; built by :func:`sam3.train.assembly.build_trainer`.

    Everything periodic is an object of its own: ``log``, ``checkpointer``, ``validator``, ``callbacks``. Several
    processes go through the same steps, each with its share of every batch; ``network`` is model and loss, connected
    by an engine (``engine.py``).
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        criterion: nn.Module,
        network: nn.Module,
        optimizer: ScheduledOptimizer,
        state: RunState,
        train_loader: Loader | None,
        validator: Validator | None,
        checkpointer: Checkpointer,
        log: RunLog,
        precision: Precision,
        settings: TrainerConfig,
        clip: GradientClipConfig | None,
        dumps: BatchDumps,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.network = network
        self.optimizer = optimizer
        self.state = state
        self.train_loader = train_loader
        self.validator = validator
        self.checkpointer = checkpointer
        self.log = log
        self.precision = precision
        self.settings = settings
        self.clip = clip
        self.callbacks = list(callbacks)
        self.guard = FiniteGuard(settings.nonfinite_limit, state.progress, dumps)
        self.early_stopping = EarlyStopping(settings.early_stopping, state.progress)
        self.stop = StopSignals()
        self.replaced = ReplacedImages(train_loader)

    @property
    def progress(self) -> Progress:
        return self.state.progress

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return len(self.train_loader) * self.settings.max_epochs

    def run(self) -> ValidationResult | None:
        """Train to the end, or validate once with ``mode=val``; the last validation's result.

        Raises:
            StoppedBySignal: the process was asked to end, and everything is saved.
        """
        with self.stop:
            try:
                self._remember_start()
                return self.validate() if self.settings.mode == "val" else self._train()
            except StoppedBySignal as stopped:
                _log.warning(
                    "stopped by %s, exit code %d; the same command goes on from %s",
                    stopped.signal.name,
                    stopped.code,
                    self.checkpointer.last,
                )
                raise

    def _remember_start(self) -> None:
        """What the starting weights know, for the drift; a resumed run reads it."""
        if self.validator is not None:
            is_start = self.progress.steps == 0 and self.settings.mode != "val"
            with self.stop.leaving_at_once():
                self.validator.begin(self.model, self.precision.autocast(), is_start=is_start)

    # --- training ---

    def _train(self) -> ValidationResult | None:
        for callback in self.callbacks:
            callback.on_train_start(self)
        result = self._finish_epoch()  # of an interrupted run
        while self.progress.epoch < self.settings.max_epochs and not self.early_stopping.is_due:
            self.train_epoch()
            result = self._finish_epoch()
        self.checkpointer.save_last(self.state)
        self.log.finished(self)
        for callback in self.callbacks:
            callback.on_train_end(self)
        return result

    def train_epoch(self) -> None:
        """The rest of the current epoch, then the rolling checkpoint."""
        progress = self.progress
        self.model.train()
        self.train_loader.set_epoch(progress.epoch)
        last_end = time.monotonic()
        for batch in self.train_loader.iterate(progress.step_in_epoch):
            loaded = time.monotonic()
            is_stand_in = not self.train_loader.places(progress.step_in_epoch)
            result = self.train_step(batch, is_stand_in=is_stand_in)
            progress.steps += 1
            progress.step_in_epoch += 1
            end = time.monotonic()
            progress.seconds += end - last_end
            self._after_step(result, data_seconds=loaded - last_end, step_seconds=end - last_end)
            last_end = end
        self._end_epoch()

    def train_step(self, batch: Batch, *, is_stand_in: bool = False) -> StepResult:
        """Forward and backward of every micro-batch, clip, step.

        Args:
            is_stand_in: this process takes part, but its images do not count.
        """
        self.optimizer.apply_schedules(self.progress.steps, self.total_steps)
        self.optimizer.zero_grad()
        micro_batches = self._micro_batches(batch, is_stand_in)
        sums: dict[str, Tensor] = {}
        for number, (part, share) in enumerate(micro_batches, start=1):
            part = to_device(part, self.precision.device, non_blocking=True)
            with own_gradients(self.network) if number < len(micro_batches) else nullcontext():
                losses = self._losses(part, share)
                if losses is None:
                    return self._skipped(batch)
                self.state.scaler.scale(losses.total / len(micro_batches)).backward()
            for name, value in losses.here(share).items():
                sums[name] = sums.get(name, 0.0) + value / len(micro_batches)
        self.state.scaler.unscale_(self.optimizer.optimizer)
        norm = self._clip().item()
        if self.precision.dtype != torch.float16 and not math.isfinite(norm):
            self.guard.report(f"gradient norm {norm}", batch)  # in float16 the scaler skips and lowers its scale
            return self._skipped(batch)
        self.state.scaler.step(self.optimizer.optimizer)
        self.state.scaler.update()
        if self.state.average is not None:
            self.state.average.update()
        images = sum(share.images for _, share in micro_batches)
        return StepResult(losses=total_of_each(sums), images=images, gradient_norm=norm)

    def _micro_batches(self, batch: Batch, is_stand_in: bool) -> list[tuple[Batch, Share]]:
        """The same number in every process; a process without images of its own repeats some, with no weight."""
        parts = split_batch(batch, self.settings.gradient_accumulation_steps)
        shares = agree_on_shares([] if is_stand_in else parts, self.settings.gradient_accumulation_steps)
        return [(parts[index % len(parts)], share) for index, share in enumerate(shares)]

    def _losses(self, part: Batch, share: Share) -> Losses | None:
        """Losses of one micro-batch; None when those of this or any other process are not finite."""
        try:
            with self.precision.autocast():
                losses = self.network(part, share)
        except NonFiniteCostError as error:
            self.guard.report(str(error), part)
            losses = None
        is_good = losses is not None and self.guard.is_finite(losses, part)
        return losses if self.guard.agreed(is_good) else None

    def _clip(self) -> Tensor:
        if self.clip is None:
            return clip_gradients(self.optimizer.parameters, None)
        return clip_gradients(self.optimizer.parameters, self.clip.max_norm, self.clip.norm_type)

    def _skipped(self, batch: Batch) -> StepResult:
        self.optimizer.zero_grad()
        return StepResult(losses={}, images=len(batch), gradient_norm=float("nan"), skipped=True)

    def _after_step(self, result: StepResult, *, data_seconds: float, step_seconds: float) -> None:
        progress = self.progress
        if not result.skipped:
            self.state.means.update(result.losses, weight=result.images)
        self.log.step(self, result, data_seconds=data_seconds, step_seconds=step_seconds)
        for callback in self.callbacks:
            callback.on_step_end(self, result)
        try:
            self.guard.count(skipped=result.skipped)
        except NotFiniteError:
            progress.nonfinite_in_a_row = 0
            self.checkpointer.save_last(self.state)  # skipped steps changed nothing: the weights are good
            raise
        if (received := self.stop.agreed()) is not None:
            self._leave(received)
        if self.checkpointer.is_due_after_step(progress) and progress.step_in_epoch < len(self.train_loader):
            self.checkpointer.save_last(self.state, or_stop=False)

    def _leave(self, received: signal.Signals) -> NoReturn:
        """Save in the middle of an epoch and end, in all processes: one of them was asked to."""
        _log.warning("received %s: saving before leaving", received.name)
        self.checkpointer.save_last(self.state)
        raise StoppedBySignal(received)

    def _end_epoch(self) -> None:
        progress, means = self.progress, self.state.means.means()
        epoch = progress.epoch
        progress.epoch, progress.step_in_epoch = epoch + 1, 0
        progress.pending_validation = self._is_validation_due(epoch)
        self.state.means.reset()
        self.replaced.report(epoch)
        self.log.train_epoch(self, epoch, means)
        for callback in self.callbacks:
            callback.on_epoch_end(self, means)
        self.checkpointer.save_last(self.state, or_stop=False)

    # --- between epochs ---

    def _is_validation_due(self, epoch: int) -> bool:
        if self.validator is None:
            return False
        if epoch == self.settings.max_epochs - 1:
            return True
        return epoch % self.settings.val_epoch_freq == 0 and not (self.settings.skip_first_val and epoch == 0)

    def _finish_epoch(self) -> ValidationResult | None:
        """What follows a finished epoch; does nothing in the middle of one, and nothing twice."""
        if self.progress.step_in_epoch:
            return None
        result = self.validate() if self.progress.pending_validation else None
        if self.checkpointer.is_export_due(self.progress.epoch):
            with self.state.averaged():
                self.checkpointer.export(self.checkpointer.epoch_file(self.progress.epoch), self.state)
        return result

    def validate(self) -> ValidationResult:
        """Measure, log, and keep the model if it is the best so far; with averaged weights where there are any."""
        with self.state.averaged():
            return self._validate()

    def _validate(self) -> ValidationResult:
        progress = self.progress
        with self.stop.leaving_at_once():  # the rolling file says that this validation is still to be done
            result = self.validator.run(self.model, self.precision.autocast())
        progress.steps_val += result.batches
        progress.seconds += result.seconds
        progress.pending_validation = False
        is_training = self.settings.mode != "val"
        is_best = take_over(result, progress, drift_limit=self.settings.drift_limit, may_be_best=is_training)
        self.early_stopping.update(result.metric)
        if is_best:
            self.checkpointer.export(self.checkpointer.folder / BEST, self.state)
        self.log.validation(self, result)
        for callback in self.callbacks:
            callback.on_validation_end(self, result)
        if self.precision.device.type == "cuda":
            torch.cuda.empty_cache()
        return result
