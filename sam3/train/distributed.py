"""The processes that train together: who this one is, and the few things they tell each other.

Whoever starts the processes (``launcher.py``, torchrun, a SLURM task) says so in the environment: ``RANK``,
``LOCAL_RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT``. One process needs no process group: it is number 0
of 1, and everything here answers at once. Every function of the second half must be called by all processes, in the
same order.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sam3.errors import ConfigError
from sam3.train.schema import DistributedConfig

T = TypeVar("T")

_REQUIRED = ("RANK", "LOCAL_RANK", "WORLD_SIZE")


def is_started_by_others() -> bool:
    """Whether torchrun, a SLURM task or our own launcher started this process as one of several."""
    return all(name in os.environ for name in _REQUIRED)


def started_world_size() -> int | None:
    """How many processes the environment speaks of, if it does."""
    return int(os.environ["WORLD_SIZE"]) if is_started_by_others() else None


def local_rank() -> int:
    """Number of this process on its machine, which is the number of its device."""
    return int(os.environ["LOCAL_RANK"]) if is_started_by_others() else 0


def rank() -> int:
    """Number of this process, 0 .. world_size() - 1."""
    return dist.get_rank() if _is_running() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if _is_running() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and logs."""
    return rank() == 0


@contextmanager
def process_group(settings: DistributedConfig, accelerator: str) -> Iterator[None]:
    """Join the processes that the environment speaks of, and leave them at the end; nothing for one process.

    Raises:
        ConfigError: this machine has fewer CUDA devices than processes.
    """
    if started_world_size() in (None, 1):
        yield
        return
    uses_cuda = _uses_cuda(accelerator)
    if uses_cuda:
        _take_device(accelerator)
    dist.init_process_group(
        choose_backend(settings.backend, uses_cuda=uses_cuda), timeout=timedelta(minutes=settings.timeout_minutes)
    )
    yield
    # Not after an error: the others may wait in another place, and the end of this process tells them.
    dist.destroy_process_group()


def choose_backend(wanted: str, *, uses_cuda: bool) -> str:
    """The backend of ``trainer.distributed.backend``; with NCCL, what lies on the CPU still travels by Gloo."""
    if wanted == "auto":
        wanted = "nccl" if uses_cuda and dist.is_nccl_available() else "gloo"
    return "cpu:gloo,cuda:nccl" if wanted == "nccl" else wanted


def _uses_cuda(accelerator: str) -> bool:
    return accelerator.startswith("cuda") or (accelerator == "auto" and torch.cuda.is_available())


def _take_device(accelerator: str) -> None:
    count = torch.cuda.device_count()
    if ":" in accelerator:
        raise ConfigError(
            f"trainer.accelerator is {accelerator}, one device for several processes; say cuda: each process takes "
            "its own (CUDA_VISIBLE_DEVICES chooses among them)"
        )
    if local_rank() >= count:
        raise ConfigError(
            f"process {local_rank()} of this machine has no CUDA device of its own: there are {count}. Lower "
            "launcher.gpus_per_node, or set trainer.accelerator=cpu"
        )
    torch.cuda.set_device(local_rank())


def _is_running() -> bool:
    return dist.is_available() and dist.is_initialized()


# --- together ---


def total(value: Tensor) -> Tensor:
    """Sum of ``value`` over all processes, the same in each of them."""
    if world_size() == 1:
        return value
    result = value.clone()
    dist.all_reduce(result)
    return result


def mean(value: Tensor) -> Tensor:
    """Mean of ``value`` over all processes, the same in each of them."""
    return total(value) / world_size()


def any_true(value: bool) -> bool:
    """Whether ``value`` holds in at least one process."""
    return bool(total(torch.tensor(float(value))) > 0)


def barrier() -> None:
    """Wait until every process is here."""
    any_true(False)


def gather_objects(value: T) -> list[T]:
    """The values of all processes in their order; on process 0, elsewhere an empty list."""
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(value, values)
    return values or []


def broadcast_object(value: T) -> T:
    """The value of process 0."""
    if world_size() == 1:
        return value
    box: Sequence[Any] = [value]
    dist.broadcast_object_list(box)
    return box[0]
