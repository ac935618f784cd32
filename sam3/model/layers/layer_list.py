"""A list of layers that can forget its activations."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


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


def set_activation_checkpointing(model: nn.Module, enabled: bool) -> None:
    """Switch every :class:`LayerList` inside ``model``."""
    for module in model.modules():
        if isinstance(module, LayerList):
            module.activation_checkpointing = enabled
