"""Low-rank adapters become part of the weights they belong to."""

from dataclasses import replace

from sam3.errors import CheckpointError
from sam3.io.adapter_file import apply_adapter, read_adapter
from sam3.io.checkpoint import Checkpoint
from sam3.io.low_rank import adapted_weights, merge_low_rank


def merge_adapter(weights: Checkpoint, adapter_path: str | None) -> Checkpoint:
    """The same network without adapters.

    Args:
        weights: the base, or with its adapters inside (a checkpoint of LoRA training).
        adapter_path: adapter file; None = those inside ``weights``.

    Raises:
        CheckpointError: there is no adapter, or it belongs to other weights.
    """
    inside = adapted_weights(weights.state_dict)
    if adapter_path is None:
        if not inside:
            raise CheckpointError(
                f"{weights.path} holds no low-rank adapters to merge; name an adapter file with --adapter"
            )
        return replace(weights, state_dict=merge_low_rank(weights.state_dict))
    if inside:
        raise CheckpointError(
            f"{weights.path} is a checkpoint of LoRA training and holds its adapters already; leave --adapter out, or "
            "give the base model that the adapter was trained on"
        )
    return apply_adapter(weights, read_adapter(adapter_path))
