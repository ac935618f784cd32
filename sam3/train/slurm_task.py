"""What a SLURM task of a run does: find the others, train, and leave so that the job can go on later."""

import json
import os
import signal
import socket
import time
import uuid
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sam3.io.files import write_json
from sam3.train.config_loading import LoadedConfig
from sam3.train.launcher import run_rank
from sam3.train.stop_signals import StoppedBySignal

_WAIT_SECONDS = 600.0  # for process 0 to say where it is


class SlurmTask:
    """Called in every process of a job. Follows submitit's protocol of what can be continued (``checkpoint``)."""

    def __init__(self) -> None:
        self.submission = uuid.uuid4().hex[:12]  # tells the files of this submission from those of others

    def __call__(self, loaded: LoadedConfig) -> None:
        """Train or validate as one process of the job.

        Raises:
            StoppedBySignal: the cluster takes its machines back and requeues the job if it wants to.
        """
        import submitit

        task = submitit.JobEnvironment()
        os.environ |= {
            "RANK": str(task.global_rank),
            "LOCAL_RANK": str(task.local_rank),
            "WORLD_SIZE": str(task.num_tasks),
            "LOCAL_WORLD_SIZE": str(task.num_tasks // task.num_nodes),
        }
        _limit_threads()
        meeting_point = self._meet(task, loaded)  # stays open as long as it has a name
        try:
            run_rank(loaded)
        except StoppedBySignal as stopped:
            _leave(stopped, is_main=task.global_rank == 0)
        finally:
            del meeting_point

    def checkpoint(self, loaded: LoadedConfig) -> Any:
        """What a requeued job calls: the same again, as the run's own checkpoint says where to go on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, loaded)

    def _meet(self, task: Any, loaded: LoadedConfig) -> dist.TCPStore | None:
        """Tell the processes of the job where they meet: process 0 opens a port and writes down which."""
        if task.num_tasks == 1:
            return None
        restart = os.environ.get("SLURM_RESTART_COUNT", "0")
        note = task.paths.folder / f"{task.job_id}_meeting_{self.submission}_{restart}.json"
        store = None
        if task.global_rank == 0:
            store = open_store(loaded.run.submitit.port_range)
            # Machines with a name that they do not know themselves exist; one machine needs none.
            host = "127.0.0.1" if task.num_nodes == 1 else socket.getfqdn()
            write_json(note, {"host": host, "port": store.port})
        place = wait_for_note(note, _WAIT_SECONDS)
        os.environ |= {
            "MASTER_ADDR": place["host"],
            "MASTER_PORT": str(place["port"]),
            "TORCHELASTIC_USE_AGENT_STORE": "True",  # torch's name for: the port is open already
            "TORCHELASTIC_RESTART_COUNT": restart,
        }
        return store


def open_store(port_range: list[int]) -> dist.TCPStore:
    """A meeting point on a free port of ``[lowest, highest]``, open from the moment it is found.

    Raises:
        RuntimeError: every port is taken.
    """
    low, high = port_range
    start = os.getpid() % (high - low + 1)
    for offset in range(high - low + 1):
        port = low + (start + offset) % (high - low + 1)
        try:
            return dist.TCPStore("0.0.0.0", port, is_master=True, wait_for_workers=False)
        except dist.DistNetworkError:
            continue  # taken
    raise RuntimeError(f"no port of submitit.port_range {low}..{high} is free on {socket.gethostname()}")


def wait_for_note(path: Path, seconds: float) -> dict[str, Any]:
    """Content of the JSON file ``path``, once it is there.

    Raises:
        RuntimeError: it does not come.
    """
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            raise RuntimeError(
                f"process 0 of the job did not say within {seconds:.0f} s where to meet; expected the file {path}. Is "
                "the folder shared by all machines? The log of process 0 is beside it"
            )
        os.listdir(path.parent)  # makes network file systems look again
        time.sleep(0.2)
    return json.loads(path.read_text(encoding="utf-8"))


def _limit_threads() -> None:
    """As many threads as the task has CPUs; a machine of several tasks is not theirs alone."""
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")
    if cpus and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(int(cpus))


def _leave(stopped: StoppedBySignal, *, is_main: bool) -> None:
    """Everything is saved. The handler that submitit installed requeues the job if this was the signal for it."""
    handler = signal.getsignal(stopped.signal)
    if callable(handler):
        handler(stopped.signal, None)  # does not return where it requeues, which only process 0 does
    # The others must not look as if they had failed: that would end process 0 before it is done.
    raise stopped if is_main else SystemExit(0)
