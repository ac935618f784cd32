"""Two processes that work together, for tests."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sam3.model.video.partners import Partners


def in_two_processes(work: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """``work(partners, *arguments)`` in each; what it returned (tensors, plain values), or its error in words."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_process, args=(rank, folder, work, arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _process(rank: int, folder: Path, work: Callable[..., Any], arguments: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        result = work(Partners(dist.group.WORLD), *arguments)
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    torch.save(result, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
