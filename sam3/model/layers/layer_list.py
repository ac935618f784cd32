"""A list of layers that can forget its activations."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sam3.errors import ConfigError

CHECKPOINTED_PARTS = ("none", "vision", "all")


class LayerList(nn.ModuleList):
    """``nn.ModuleList`` whose layers may run under activation checkpointing.

    With ``activation_checkpointing`` set, a layer's activations are computed a second time in the backward
    pass instead of being kept: less memory, about a third more time, the same gradients.
    """

    activation_checkpointing = False

    def run(self, layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """``layer(*args, **kwargs)``, checkpointed if asked for and gradients are wanted."""
        if self.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *args, use_reentrant=False, **kwargs)
        return layer(*args, **kwargs)


def set_activation_checkpointing(model: nn.Module, parts: str | bool) -> None:
    """Switch the lists inside ``model``: ``all`` (or True), ``none`` (or False), ``vision`` (those of the image trunk).

    Raises:
        ConfigError: another value.
    """
    parts = {True: "all", False: "none"}.get(parts, parts)
    if parts not in CHECKPOINTED_PARTS:
        raise ConfigError(f"activation_checkpointing is {parts!r}; expected {', '.join(CHECKPOINTED_PARTS)}")
    for name, module in model.named_modules():
        if isinstance(module, LayerList):
            is_trunk = "trunk" in name.split(".")
            module.activation_checkpointing = parts == "all" or (parts == "vision" and is_trunk)
