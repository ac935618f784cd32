"""Two processes with a process group, for checks that need several: one start, many checks."""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from sam3.train import distributed
from sam3.train.schema import DistributedConfig


def run_pair(check: Callable[..., Any], *arguments: Any, processes: int = 2) -> list[Any]:
    """What ``check(*arguments)`` returns in each process, in their order.

    Raises:
        AssertionError: with the traceback of the first process that failed.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    started = [
        context.Process(target=_run, args=(rank, processes, store.port, answers, check, arguments))
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    try:
        results: dict[int, Any] = {}
        while len(results) < processes:
            rank, error, result = answers.get(timeout=900)
            assert error is None, f"process {rank}:\n{error}"
            results[rank] = result
        return [results[rank] for rank in range(processes)]
    finally:
        for process in started:
            process.join(timeout=0 if process.exitcode is None and len(results) < processes else 30)
            process.kill()


def _run(rank: int, processes: int, port: int, answers: Any, check: Callable[..., Any], arguments: tuple) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    try:
        with distributed.process_group(DistributedConfig(), "cpu"):
            answers.put((rank, None, check(*arguments)))
    except Exception:
        answers.put((rank, traceback.format_exc(), None))
