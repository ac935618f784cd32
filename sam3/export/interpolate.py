"""Weights between a base model and what was tuned from it: some of what was learnt, some of what was known before."""

from dataclasses import replace

import torch
from torch import Tensor

from sam3.errors import CheckpointError, listed
from sam3.io.checkpoint import Checkpoint


def interpolate(tuned: Checkpoint, base: Checkpoint, share: float) -> Checkpoint:
    """``base + share * (tuned - base)``, tensor by tensor, for the tensors of the tuned model.

    Args:
        share: 0 = the base, 1 = the tuned model.

    Raises:
        CheckpointError: the base lacks a tensor of the tuned model, or has it in another shape.
    """
    _check_same_network(tuned, base)
    mixed = {name: _between(base.state_dict[name], tensor, share) for name, tensor in tuned.state_dict.items()}
    card = tuned.card or base.card
    if card is not None:  # what was measured holds for the tuned weights, not for these
        card = replace(card, interpolation=share, metric={})
    return replace(tuned, state_dict=mixed, card=card)


def _between(base: Tensor, tuned: Tensor, share: float) -> Tensor:
    """Computed in float32; the ends are met exactly."""
    if not tuned.is_floating_point():
        return tuned
    return torch.lerp(base.float(), tuned.float(), share)


def _check_same_network(tuned: Checkpoint, base: Checkpoint) -> None:
    missing = [name for name in tuned.state_dict if name not in base.state_dict]
    if missing:
        raise CheckpointError(
            f"{base.path} is not the base of {tuned.path}: it lacks {len(missing)} of {len(tuned.state_dict)} tensors "
            f"({listed(missing, limit=4)})"
        )
    differing = [
        f"{name} {list(base.state_dict[name].shape)} and {list(tensor.shape)}"
        for name, tensor in tuned.state_dict.items()
        if base.state_dict[name].shape != tensor.shape
    ]
    if differing:
        raise CheckpointError(
            f"{base.path} is not the base of {tuned.path}: {len(differing)} tensors differ in shape "
            f"({listed(differing, limit=4)})"
        )
