"""Which process this is. One process needs no process group: then it is number 0 of 1."""

import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """Number of this process, 0 .. world_size() - 1."""
    return dist.get_rank() if _is_running() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if _is_running() else 1


def mean(value: Tensor) -> Tensor:
    """Mean of ``value`` over all processes, the same in each of them."""
    if world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / world_size()


def _is_running() -> bool:
    return dist.is_available() and dist.is_initialized()
