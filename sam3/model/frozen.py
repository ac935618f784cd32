"""Parts of the network that do not learn: whether they do, when their weights change, how they behave in training."""

from collections.abc import Hashable

import torch
from torch import nn


def learns(module: nn.Module) -> bool:
    """Whether any parameter of ``module`` wants a gradient."""
    return any(parameter.requires_grad for parameter in module.parameters())


def keep_frozen_parts_in_eval_mode(module: nn.Module) -> None:
    """Switch every part of ``module`` whose parameters are all frozen to evaluation mode: no dropout, no drop path.

    What a frozen part says of an input is then always the same, so that it can be computed once.
    """
    for child in module.children():
        if next(child.parameters(), None) is not None and not learns(child):
            child.eval()
        else:
            keep_frozen_parts_in_eval_mode(child)


def weights_version(module: nn.Module) -> Hashable:
    """A value that changes when weights of ``module`` are written or moved; costs microseconds, reads no weight."""
    return tuple((id(p), p._version, p.device, p.dtype) for p in module.parameters())


def autocast_state(device: torch.device) -> Hashable:
    """What autocast does to results on ``device`` right now."""
    return torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type)
