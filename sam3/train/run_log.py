"""What a run says while it runs: text lines, the live line, JSON lines, curves, pictures.

Names of curves: spec/training.md 3.7.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sam3.model.video.sam3_video import Sam3Video
from sam3.train.checkpointing import BEST, LAST
from sam3.train.logging_setup import Curves, JsonLines
from sam3.train.meters import LiveLine, Pace, clock_text, memory_gb
from sam3.train.progress import Progress
from sam3.train.schema import LoggingConfig
from sam3.train.validation import ValidationResult
from sam3.train.validation_figures import draw_validation

if TYPE_CHECKING:
    from sam3.train.trainer import StepResult, Trainer

_log = logging.getLogger(__name__)


class RunLog:
    """Called by the trainer after each step, epoch and validation."""

    def __init__(self, settings: LoggingConfig, curves: Curves, live: LiveLine) -> None:
        self.settings = settings
        self.curves = curves
        self.live = live
        self.pace = Pace()
        folder = Path(settings.log_dir)
        self.train_stats = JsonLines(folder / "train_stats.json")
        self.val_stats = JsonLines(folder / "val_stats.json")
        self.best_stats = JsonLines(folder / "best_stats.json")

    def forget_what_is_repeated(self, progress: Progress) -> None:
        """Drop lines of epochs and validations that a resumed run will do again."""
        self.train_stats.forget_from(progress.epoch)
        for stats in (self.val_stats, self.best_stats):
            stats.forget_from(progress.epoch - 1 if progress.pending_validation else progress.epoch)

    def close(self) -> None:
        """Write out what is buffered."""
        self.live.clear()
        self.curves.close()

    def step(self, trainer: "Trainer", result: "StepResult", *, data_seconds: float, step_seconds: float) -> None:
        """After each step; the text log gets a line every ``log_freq``, the curves a point every
        ``log_scalar_frequency`` steps, the first one included."""
        progress = trainer.progress
        self.pace.update(step_seconds, result.images)
        if self.live.is_due:
            self.live.show(self._line(trainer))
        if progress.step_in_epoch % self.settings.log_freq == 0 or progress.step_in_epoch == len(trainer.train_loader):
            self.live.clear()
            _log.info("%s", self._line(trainer))
        step = progress.steps - 1
        if step % self.settings.log_scalar_frequency == 0 and not result.skipped:
            self.curves.scalars(self._step_curves(trainer, result, data_seconds, step_seconds), step)

    def _line(self, trainer: "Trainer") -> str:
        """What matters most stands first: a narrow terminal cuts the line."""
        progress, means = trainer.progress, trainer.state.means.means()
        remaining = trainer.total_steps - progress.steps
        parts = [
            f"epoch {progress.epoch + 1}/{trainer.settings.max_epochs} "
            f"[{progress.step_in_epoch}/{len(trainer.train_loader)}]",
            f"ETA {self.pace.remaining(remaining)}",
            f"loss {means.get('loss', float('nan')):.4g}",
            *_last_and_best(progress),
            f"{self.pace.images_per_second:.3g} images/s",
            f"{memory_gb(trainer.precision.device):.2f} GB",
            *(f"{name} {means[name]:.3g}" for name in ("loss_ce", "presence_loss", "loss_mask") if name in means),
        ]
        return " | ".join(parts)

    def _step_curves(
        self, trainer: "Trainer", result: "StepResult", data_seconds: float, step_seconds: float
    ) -> dict[str, float]:
        values = {f"Step_Losses/Losses/train_all_loss/{name}": float(v) for name, v in result.losses.items()}
        values["Step_Losses/Losses/train_all_loss"] = values.pop("Step_Losses/Losses/train_all_loss/loss")
        values |= {
            "Step_Stats/train/Batch Time": step_seconds,
            "Step_Stats/train/Data Time": data_seconds,
            "Step_Stats/train/Images per Second": self.pace.images_per_second,
            "Step_Stats/train/Losses/train_all_loss": trainer.state.means.means()["loss"],
            "Step_Stats/train/Gradient Norm": result.gradient_norm,
            "Step_Stats/train/Mem (GB)": memory_gb(trainer.precision.device),
            "Step_Stats/train/Time Elapsed": trainer.progress.seconds,
        }
        return values | optimizer_curves(trainer.optimizer, all_groups=self.settings.all_groups)

    def train_epoch(self, trainer: "Trainer", epoch: int, means: dict[str, float]) -> None:
        """``epoch``: index of the finished epoch."""
        progress = trainer.progress
        values = {f"Losses/train_all_{name}": value for name, value in means.items()}
        values |= _where(trainer, epoch) | {"Trainer/steps_train": progress.steps}
        self.train_stats.append(values | self._effort(trainer))
        self.curves.scalars(values, epoch)
        self.live.clear()
        _log.info(
            "epoch %d/%d: mean loss %.4g, %s so far",
            epoch + 1,
            trainer.settings.max_epochs,
            means.get("loss", float("nan")),
            clock_text(progress.seconds),
        )

    def _effort(self, trainer: "Trainer") -> dict[str, float]:
        """What the report of a run needs beside the curves of the epoch: pace, memory, time, rates at its end."""
        return {
            "Trainer/seconds": trainer.progress.seconds,
            "Trainer/replaced_images": trainer.replaced.count,
            "Trainer/skipped_steps": trainer.progress.nonfinite_steps,
            "Trainer/images_per_second": self.pace.images_per_second,
            "Trainer/memory_gb": memory_gb(trainer.precision.device),
        } | optimizer_curves(trainer.optimizer, all_groups=False)

    def validation(self, trainer: "Trainer", result: ValidationResult) -> None:
        """After each validation, best checkpoint already decided."""
        progress = trainer.progress
        epoch = max(0, progress.epoch - 1)
        values = result.to_dict() | _where(trainer, epoch) | {"Trainer/steps_val": progress.steps_val}
        self.val_stats.append(values | {"Trainer/seconds": progress.seconds})
        self.curves.scalars(values, epoch)
        if progress.best_epoch == progress.epoch and trainer.settings.mode != "val":
            self.best_stats.append({result.metric_name: result.metric, **_where(trainer, epoch)})
        draw_validation(
            self.curves,
            trainer.validator,
            epoch,
            settings=self.settings.tensorboard,
            score_threshold=trainer.checkpointer.settings.score_threshold,
        )
        self.live.clear()
        is_new = " (best so far)" if progress.best_epoch == progress.epoch else ""
        _log.info(
            "validation after epoch %d: %d images in %s%s\n%s",
            progress.epoch,
            result.images,
            clock_text(result.seconds),
            is_new,
            result.summary(),
        )

    def finished(self, trainer: "Trainer") -> None:
        """The last words: how good it is, where it is, what comes next."""
        progress, folder = trainer.progress, trainer.checkpointer.folder
        _log.info("trained %d epochs in %s", progress.epoch, clock_text(progress.seconds))
        if progress.best_epoch is not None:
            _log.info(
                "best %s %.3f after epoch %d: %s",
                progress.metric_name,
                progress.best_metric,
                progress.best_epoch,
                folder / BEST,
            )
        used = folder / (LAST if progress.best_epoch is None else BEST)
        if isinstance(trainer.model, Sam3Video):
            _log.info("use it: sam3 track VIDEOS --checkpoint %s --output-dir RESULTS --prompt PHRASE", used)
        else:
            _log.info("use it: sam3 predict --checkpoint %s --input IMAGES --output RESULTS", used)


def _last_and_best(progress: Progress) -> list[str]:
    """``cgF1 0.512 (best 0.530)`` and ``AP 0.401``, or AP alone; nothing before the first validation."""
    if progress.last_metric is None:
        return []
    name = (progress.metric_name or "").rpartition("_")[2]
    best = "" if progress.best_metric is None else f" (best {progress.best_metric:.3f})"
    ap = [] if name == "AP" or progress.last_ap is None else [f"AP {progress.last_ap:.3f}"]
    return [f"{name} {progress.last_metric:.3f}{best}", *ap]


class SilentLog(RunLog):
    """Of the processes that write nothing: the main one does, with the numbers of all."""

    def __init__(self) -> None:
        self.live = LiveLine(False)

    def forget_what_is_repeated(self, progress: Progress) -> None:
        """Nothing was written."""

    def close(self) -> None:
        """Nothing is buffered."""

    def step(self, *_, **__) -> None:
        """Said by the main process."""

    def train_epoch(self, *_) -> None:
        """Said by the main process."""

    def validation(self, *_) -> None:
        """Said by the main process."""

    def finished(self, *_) -> None:
        """Said by the main process."""


def optimizer_curves(optimizer, *, all_groups: bool) -> dict[str, float]:
    """Learning rate and weight decay: of every group, or of the groups with the extreme rates under each rule."""
    rows = list(zip(optimizer.groups, optimizer.optimizer.param_groups, strict=True))
    if all_groups:
        return {
            f"Optim/{index}_{group.label}/{option}": own[option]
            for index, (group, own) in enumerate(rows)
            for option in group.schedules
        }
    values = {}
    for label in dict.fromkeys(group.label for group, _ in rows):
        members = [(group, own) for group, own in rows if group.label == label]
        extremes: dict[float, tuple] = {}
        for group, own in members:
            extremes.setdefault(group.lr_multiplier, (group, own))
        for multiplier in {min(extremes), max(extremes)}:
            group, own = extremes[multiplier]
            suffix = "" if multiplier == max(extremes) else f" x{multiplier:.3g}"
            values |= {f"Optim/{label}{suffix}/{option}": own[option] for option in group.schedules}
    return values


def _where(trainer: "Trainer", epoch: int) -> dict[str, float]:
    """How far the run is, 0 to 1, and the index of the epoch."""
    return {"Trainer/where": trainer.progress.epoch / trainer.settings.max_epochs, "Trainer/epoch": epoch}
