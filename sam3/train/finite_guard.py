"""What happens when a loss or a gradient is not a number: the step is skipped, and after too many the run stops."""

import logging
import math
from collections.abc import Mapping

from torch import Tensor

from sam3.errors import UserError, listed
from sam3.structures import Batch
from sam3.train import distributed
from sam3.train.batch_dumps import BatchDumps
from sam3.train.losses.criterion import Losses
from sam3.train.progress import Progress

_log = logging.getLogger(__name__)


class NotFiniteError(UserError):
    """Too many steps in a row had no finite loss; the weights are those of the last good step."""


class FiniteGuard:
    """Finds steps without a usable gradient, says what was in them, and counts them.

    Args:
        limit: steps in a row that may be skipped.
        progress: keeps the counts, so that they survive a restart.
        dumps: keeps the batches.
    """

    def __init__(self, limit: int, progress: Progress, dumps: BatchDumps) -> None:
        self.limit = limit
        self.progress = progress
        self.dumps = dumps

    def is_finite(self, losses: Losses, batch: Batch) -> bool:
        """Whether ``losses`` can be learnt from; if not, the terms, the step and the images are logged."""
        if math.isfinite(losses.total.item()):
            return True
        self.report(f"loss {losses.total.item()} ({_bad_terms(losses.parts)})", batch, losses.parts)
        return False

    def agreed(self, is_good: bool) -> bool:
        """Whether the micro-batch is good in every process: they all go backward, or none does."""
        if not distributed.any_true(not is_good):
            return True
        if is_good:
            _log.warning(
                "epoch %d, step %d: another process has no finite loss; the step is skipped here, too. Its batch is "
                "described in its own log and in %s",
                self.progress.epoch,
                self.progress.step_in_epoch,
                self.dumps.folder,
            )
        return False

    def report(self, what: str, batch: Batch, parts: Mapping[str, Tensor] | None = None) -> None:
        """Name what is wrong with which batch, and keep the batch.

        Args:
            parts: loss parts of the batch, as far as there are any.
        """
        epoch, step = self.progress.epoch, self.progress.step_in_epoch
        kept = self.dumps.write(batch, epoch=epoch, step=step, reason=what, parts=parts or {})
        _log.warning(
            "epoch %d, step %d: %s; the step is skipped. Images: %s. Phrases: %s%s",
            epoch,
            step,
            what,
            listed(batch.origin.file_names),
            ", ".join(batch.phrases),
            f". Kept as {kept}" if kept else "",
        )

    def count(self, *, skipped: bool) -> None:
        """Call once a step.

        Raises:
            NotFiniteError: ``limit`` steps in a row were skipped.
        """
        self.progress.nonfinite_steps += skipped
        self.progress.nonfinite_in_a_row = self.progress.nonfinite_in_a_row + 1 if skipped else 0
        if self.progress.nonfinite_in_a_row >= self.limit:
            raise NotFiniteError(
                f"{self.limit} steps in a row had no finite loss or gradient (epoch {self.progress.epoch}, step "
                f"{self.progress.step_in_epoch}); the log names the loss terms and images, {self.dumps.folder} keeps "
                "batches. Look at these images, lower scratch.lr_scale or set optim.amp.enabled=false; "
                "trainer.nonfinite_limit sets this limit"
            )


def _bad_terms(parts: Mapping[str, Tensor]) -> str:
    bad = [name for name, value in parts.items() if not math.isfinite(float(value))]
    return "not finite: " + ", ".join(bad) if bad else "all terms finite, their sum is not"
