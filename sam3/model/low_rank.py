"""Low-rank adapters (LoRA) on the weights of a network that stays as it is.

Our own and not ``peft``: that wraps modules, which renames the released keys (``...qkv.base_layer.weight``), reaches
fused projections such as ``in_proj_weight`` by wrapping once more, and brings accelerate and transformers.
Here a weight keeps its name and place; reading the attribute gives the adapted weight.
"""

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from sam3.errors import ConfigError
from sam3.io.low_rank import PREFIX, low_rank_change


class LowRank(nn.Module):
    """``weight + scale * up @ down``. ``up`` begins at zero, so the network begins as its base."""

    def __init__(self, weight: Tensor, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        self.register_buffer("scale", weight.new_full((), alpha / rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in) -> (out, in), in the precision of the weight also under autocast."""
        with torch.autocast(weight.device.type, enabled=False):
            return weight + low_rank_change(self.down, self.up, self.scale)


def add_adapters(
    model: nn.Module, targets: Sequence[str], *, rank: int, alpha: float, frozen: Sequence[str] = ()
) -> list[str]:
    """Give every matrix whose full name matches one of the Unix patterns ``targets`` an adapter that learns.

    Args:
        frozen: Unix patterns of matrices that get none.

    Returns:
        Names of the adapted weights, in the order of the model.

    Raises:
        ConfigError: a pattern that matches no matrix.
    """
    matrices = [name for name, parameter in model.named_parameters() if parameter.dim() == 2]
    for pattern in targets:
        if not any(fnmatchcase(name, pattern) for name in matrices):
            raise ConfigError(f"model.tune.lora.targets: pattern {pattern!r} matches no matrix of the model")
    adapted = [name for name in matrices if _matches(name, targets) and not _matches(name, frozen)]
    for name in adapted:
        owner, _, leaf = name.rpartition(".")
        _adapt(model.get_submodule(owner), leaf, rank=rank, alpha=alpha)
    return adapted


def has_adapters(model: nn.Module) -> bool:
    """Whether any weight of ``model`` has an adapter."""
    return any(isinstance(module, LowRank) for module in model.modules())


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _adapt(owner: nn.Module, leaf: str, *, rank: int, alpha: float) -> None:
    """The adapter becomes a module beside the weight; the owner's class gets a property of the weight's name.

    The parameter itself stays in ``owner._parameters``, which is what ``state_dict`` and optimizers read.
    """
    owner.add_module(PREFIX + leaf, LowRank(owner._parameters[leaf].detach(), rank=rank, alpha=alpha))

    def adapted_weight(module: nn.Module) -> Tensor:
        return getattr(module, PREFIX + leaf)(module._parameters[leaf])

    kind = type(owner)
    owner.__class__ = type(f"Adapted{kind.__name__}", (kind,), {leaf: property(adapted_weight)})
