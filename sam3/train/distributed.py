"""Which process this is. One process needs no process group: then it is number 0 of 1."""

import torch.distributed as dist


def rank() -> int:
    """Number of this process, 0 .. world_size() - 1."""
    return dist.get_rank() if _is_running() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if _is_running() else 1


def is_primary() -> bool:
    """Whether this process writes the files."""
    return rank() == 0


def _is_running() -> bool:
    return dist.is_available() and dist.is_initialized()
