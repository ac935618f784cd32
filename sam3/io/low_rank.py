"""Low-rank adapters (LoRA, arXiv 2106.09685) as tensors by name.

A weight ``P.weight`` (out, in) with an adapter counts as ``weight + scale * up @ down``. Its three tensors stand
beside it in a state dict: ``P.lora_weight.down`` (rank, in), ``P.lora_weight.up`` (out, rank) and
``P.lora_weight.scale`` (); the name of the weight itself stays the released one.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sam3.errors import CheckpointError

PREFIX = "lora_"  # of the attribute that stands beside the weight
_TENSOR = re.compile(rf"(?P<owner>.+)\.{PREFIX}(?P<weight>\w+)\.(?P<role>down|up|scale)")


def adapted_weight(name: str) -> str | None:
    """Name of the weight that the adapter tensor ``name`` belongs to; None for any other tensor."""
    found = _TENSOR.fullmatch(name)
    return f"{found['owner']}.{found['weight']}" if found else None


def adapter_names(weight: str) -> dict[str, str]:
    """``down``, ``up`` and ``scale`` -> full name of that tensor of the adapter of ``weight``."""
    owner, _, leaf = weight.rpartition(".")
    return {role: f"{owner}.{PREFIX}{leaf}.{role}" for role in ("down", "up", "scale")}


def adapted_weights(names: Iterable[str]) -> list[str]:
    """The weights that the adapter tensors among ``names`` belong to, in order, each once."""
    return list(dict.fromkeys(weight for name in names if (weight := adapted_weight(name)) is not None))


def merge_low_rank(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same network without adapters: each is added to its weight, at least in float32; the rest is as given.

    Raises:
        CheckpointError: an adapter is incomplete, lacks its weight or does not fit it.
    """
    merged = {name: tensor for name, tensor in state.items() if adapted_weight(name) is None}
    for weight in adapted_weights(state):
        merged[weight] = _merged(weight, state)
    return merged


def low_rank_change(down: Tensor, up: Tensor, scale: Tensor) -> Tensor:
    """(rank, in), (out, rank), () -> (out, in): what an adapter adds to its weight."""
    return scale * (up @ down)


def _merged(weight: str, state: Mapping[str, Tensor]) -> Tensor:
    names = adapter_names(weight)
    if missing := [name for name in (weight, *names.values()) if name not in state]:
        raise CheckpointError(f"the adapter of {weight!r} is incomplete: {missing[0]!r} is missing")
    base, down, up = state[weight], state[names["down"]], state[names["up"]]
    if base.shape != (len(up), down.shape[1]) or up.shape[1] != len(down):
        raise CheckpointError(
            f"the adapter of {weight!r}, {tuple(up.shape)} times {tuple(down.shape)}, does not fit this weight of "
            f"shape {tuple(base.shape)}"
        )
    exact = torch.promote_types(base.dtype, torch.float32)
    return base.to(exact) + low_rank_change(down.to(exact), up.to(exact), state[names["scale"]].to(exact))
