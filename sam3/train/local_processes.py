"""Several processes on this machine, as ``launcher.gpus_per_node`` asks for: start, watch, end together.

When one process fails, the others find their partner gone and fail too, or wait for it in vain. So each process
notes its own error with the time; the earliest one is what happened, and the only one shown.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed as dist

from sam3.data.worker_signals import STOP_SIGNALS
from sam3.errors import INTERRUPTED, UserError
from sam3.io.files import write_json
from sam3.train.config_loading import LoadedConfig
from sam3.train.stop_signals import StoppedBySignal

GRACE_SECONDS = 20.0  # for the others to end by themselves, once one process has failed
HOST = "127.0.0.1"


class ProcessFailed(Exception):
    """A process ended with a defect of ours or from outside; the message holds its own traceback."""


@dataclass(frozen=True)
class Failure:
    """The error of one process."""

    rank: int
    time: float
    text: str
    is_user_error: bool


def run_processes(loaded: LoadedConfig, count: int) -> None:
    """Train in ``count`` processes; returns when all have ended.

    Raises:
        UserError: one process ended with an error that the user can mend.
        ProcessFailed: one process ended in another way.
        KeyboardInterrupt: after Ctrl-C, when all processes have ended.
        StoppedBySignal: the processes were asked to end and did, everything saved.
    """
    # The place where the processes meet stays open from here on, so that nobody else takes the port.
    meeting_point = dist.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as reports:
        arguments = (loaded, count, meeting_point.port, reports, os.getpid())
        processes = [
            context.Process(target=_process, args=(rank, *arguments), name=f"process {rank}") for rank in range(count)
        ]
        with _forwarded_signals(processes):
            for process in processes:
                process.start()
            interrupted, killed = _wait_for_all(processes)
        failure = _first_failure(processes, killed, Path(reports))
    if interrupted:
        raise KeyboardInterrupt
    stopped_by = _signal_of_all(processes)
    if stopped_by is not None:
        raise StoppedBySignal(stopped_by)
    if failure is not None:
        raise UserError(failure.text) if failure.is_user_error else ProcessFailed(failure.text)


def _wait_for_all(processes: Sequence[BaseProcess]) -> tuple[bool, set[int]]:
    """Until all have ended; once one has failed, the others get a moment.

    Returns:
        Whether Ctrl-C was pressed, and the ranks that had to be killed.
    """
    interrupted, killed, deadline = False, set(), None
    while running := {rank: process for rank, process in enumerate(processes) if process.is_alive()}:
        if deadline is not None and time.monotonic() > deadline:
            killed |= running.keys()
            for process in running.values():
                process.kill()
        try:
            wait([process.sentinel for process in running.values()], timeout=None if deadline is None else 0.2)
        except KeyboardInterrupt:
            interrupted = True
        if deadline is None and (interrupted or any(process.exitcode for process in processes)):
            deadline = time.monotonic() + GRACE_SECONDS
    return interrupted, killed


def _signal_of_all(processes: Sequence[BaseProcess]) -> signal.Signals | None:
    """The signal that processes were asked to end with, if that is why all of them ended that did not finish."""
    codes = {process.exitcode for process in processes if process.exitcode}
    stopped = {128 + number: number for number in STOP_SIGNALS}
    stopped |= {-number: number for number in STOP_SIGNALS}  # before there was anything to save
    return stopped[min(codes)] if codes and codes <= stopped.keys() else None


def _first_failure(processes: Sequence[BaseProcess], killed: set[int], reports: Path) -> Failure | None:
    """What happened first: a process that died without a word, else the earliest report.

    An abort is what the communication library does when a partner is gone, so it comes last.
    """
    reported = [Failure(**json.loads(path.read_text(encoding="utf-8"))) for path in reports.glob("*.json")]
    known = killed | {failure.rank for failure in reported}
    silent = [
        Failure(rank, 0.0, f"process {rank} of {len(processes)} {_how(process.exitcode)}", is_user_error=False)
        for rank, process in enumerate(processes)
        if process.exitcode and rank not in known
    ]
    aborted = [failure for failure in silent if processes[failure.rank].exitcode == -signal.SIGABRT]
    others = [failure for failure in silent if failure not in aborted]
    return next(iter([*others, *sorted(reported, key=lambda failure: failure.time), *aborted]), None)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = "; the system does that when memory runs out" if name == "SIGKILL" else ""
    return f"was ended by signal {name}{hint}"


@contextmanager
def _forwarded_signals(processes: Sequence[BaseProcess]) -> Iterator[None]:
    """Within the block, signals to this process go to ``processes``."""

    def forward(number: int, _) -> None:
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, number)

    before = {number: signal.signal(number, forward) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- inside a process ---


def _process(rank: int, loaded: LoadedConfig, count: int, port: int, reports: str, parent: int) -> None:
    _end_with(parent)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the meeting point is the parent's, as with torchrun
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    from sam3.train.launcher import run_rank

    try:
        run_rank(loaded)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        _report(rank, error, Path(reports))
        sys.exit(1)


def _report(rank: int, error: Exception, folder: Path) -> None:
    is_user_error = isinstance(error, (UserError, OSError))
    text = str(error) if is_user_error else f"process {rank} failed:\n{traceback.format_exc()}"
    write_json(folder / f"{rank}.json", asdict(Failure(rank, time.time(), text, is_user_error)))


def _end_with(parent: int) -> None:
    """However the parent ends, this process does not outlive it (Linux; elsewhere it ends at the next step)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
