"""What the steps of ``sam3 export`` work on: a model's weights with its card, as read from a file."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from sam3.errors import CheckpointError
from sam3.io.checkpoint import Checkpoint, read_checkpoint, save_weights

TRACKER_NAMES_ARE_OURS = ("sam3", "image model")  # layouts whose tracker can be written back

Step = Callable[[Checkpoint], Checkpoint]  # changes weights; the given checkpoint stays as it is


def export_weights(source: Checkpoint, target: Path, *, steps: list[Step], dtype: str, overwrite: bool) -> Checkpoint:
    """Apply ``steps`` in order and write the result to ``target``, whole or not at all.

    Returns:
        What was written, read again.

    Raises:
        CheckpointError: the target exists, or a step cannot be made.
    """
    refuse_target(source.path, target, overwrite=overwrite)
    for step in steps:
        source = step(source)
    tensors, _ = tensors_to_keep(source)
    save_weights(target, tensors, source.card, dtype=dtype)
    return read_checkpoint(target)


def refuse_target(source: Path, target: Path, *, overwrite: bool) -> None:
    """Raise a :class:`CheckpointError` unless ``target`` may be written."""
    if target.exists() and source.exists() and target.samefile(source):
        raise CheckpointError(f"{target} is the checkpoint itself; it stays as it is, choose another -o OUT")
    if target.exists() and not overwrite:
        raise CheckpointError(f"{target} exists; pass --overwrite to replace it, or choose another -o OUT")


def tensors_to_keep(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], int]:
    """Tensors under the names they are written with, and how many the result leaves out.

    A file that also holds the tracker keeps it, with the prefixes of the released file.
    """
    if not checkpoint.tracker_state:
        return checkpoint.state_dict, len(checkpoint.unused)
    if checkpoint.layout not in TRACKER_NAMES_ARE_OURS:
        return checkpoint.state_dict, len(checkpoint.unused) + len(checkpoint.tracker_state)
    both = {f"detector.{name}": tensor for name, tensor in checkpoint.state_dict.items()}
    return both | {f"tracker.{name}": tensor for name, tensor in checkpoint.tracker_state.items()}, len(
        checkpoint.unused
    )
