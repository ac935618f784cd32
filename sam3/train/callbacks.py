"""What a user can hook into the loop: subclass, and name the class in ``trainer.callbacks``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sam3.train.trainer import StepResult, Trainer
    from sam3.train.validation import ValidationResult


class Callback:
    """Does nothing; override what you need."""

    def on_train_start(self, trainer: "Trainer") -> None:
        """Before the first step, after resuming."""

    def on_step_end(self, trainer: "Trainer", result: "StepResult") -> None:
        """After each optimiser step, also a skipped one."""

    def on_epoch_end(self, trainer: "Trainer", means: dict[str, float]) -> None:
        """After each training epoch, before its validation."""

    def on_validation_end(self, trainer: "Trainer", result: "ValidationResult") -> None:
        """After each validation."""

    def on_train_end(self, trainer: "Trainer") -> None:
        """After everything is written."""
