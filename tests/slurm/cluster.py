"""A real SLURM on this one machine, for tests: started and stopped without systemd, everything in one folder.

    apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge     # Debian or Ubuntu, once
    python -m tests.slurm.cluster start FOLDER    # as root; prints the line that makes sbatch find it
    export SLURM_CONF=FOLDER/slurm.conf
    sinfo
    python -m tests.slurm.cluster stop FOLDER

Three daemons run: munged (identities), slurmctld (the queue), slurmd (this machine as the only node). Nothing
outside the folder is read or written, so a SLURM that the machine belongs to is not touched.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
INSTALL = "apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge"
_SEARCH = os.pathsep.join(filter(None, (os.environ.get("PATH"), "/usr/sbin", "/usr/local/sbin")))

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
JobRequeue=1
ReturnToService=2
KillWait={kill_wait}
# Time limits, too, are enforced to the second.
OverTimeLimit=0
# The node has as many CPUs as stated here, whatever the machine has.
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory={memory} State=UNKNOWN Feature=test
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why no SLURM can be started here; None if one can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_SEARCH) is None]
    if missing:
        return f"SLURM is not installed ({', '.join(missing)} missing): {INSTALL}"
    return None if os.geteuid() == 0 else "SLURM's daemons need root"


@dataclass(frozen=True)
class Cluster:
    """A SLURM whose files all lie in ``folder``."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes SLURM's commands talk to this one."""
        return {**os.environ, "PATH": _SEARCH, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str) -> str:
        """Output of a SLURM command."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout

    def job(self, job_id: str) -> dict[str, str]:
        """What ``scontrol`` knows about a job, for example ``JobState`` and ``Restarts``."""
        words = self.run("scontrol", "--oneliner", "show", "job", job_id).splitlines()[0].split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def start_soon(self, job_id: str) -> None:
        """Let a requeued job start as soon as its old processes are gone; SLURM would have it wait two minutes."""
        self.run("scontrol", "update", f"JobId={job_id}", "StartTime=now")

    def start(self, *, kill_wait: int = 30) -> "Cluster":
        """Start the daemons and wait until the node takes jobs.

        Args:
            kill_wait: seconds between SIGTERM and SIGKILL when a job is ended.

        Raises:
            RuntimeError: a daemon does not come up; the message has the end of its log.
        """
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "slurm.conf").write_text(self._configuration(kill_wait))
        self._start_munged()
        self._daemon("slurmctld", "-c", "-f", str(self.folder / "slurm.conf"))
        self._daemon("slurmd", "-c", "-f", str(self.folder / "slurm.conf"))
        self._wait_for_idle_node()
        return self

    def stop(self) -> None:
        """Cancel all jobs and end the daemons; the folder stays."""
        subprocess.run(["scancel", "--user=root"], env=self.environment, check=False, capture_output=True)
        for _ in range(100):
            if not self._is_busy():
                break
            time.sleep(0.2)
        for name in ("slurmd", "slurmctld", "munged"):
            _end(self.folder / f"{name}.pid")

    def _is_busy(self) -> bool:
        done = subprocess.run(["squeue", "--noheader"], env=self.environment, capture_output=True, text=True)
        return done.returncode == 0 and bool(done.stdout.strip())

    def _configuration(self, kill_wait: int) -> str:
        controller_port, node_port = _free_ports(2)
        return _CONF.format(
            folder=self.folder,
            host=socket.gethostname().split(".")[0],
            controller_port=controller_port,
            node_port=node_port,
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10,
            kill_wait=kill_wait,
        )

    def _start_munged(self) -> None:
        key = self.folder / "munge.key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(os.urandom(128))
        places = {"socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "seed"}
        options = [f"--{name}={self.folder / file}" for name, file in places.items()]
        # --force: munged distrusts folders that others may write to, such as those below /tmp.
        self._daemon("munged", "--force", f"--key-file={key}", *options)

    def _daemon(self, program: str, *arguments: str) -> None:
        done = subprocess.run([program, *arguments], env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{program} does not start: {done.stderr or done.stdout}{self._log(program)}")

    def _wait_for_idle_node(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while True:
            done = subprocess.run(["sinfo", "-h", "-o", "%T"], env=self.environment, capture_output=True, text=True)
            if done.stdout.strip() == "idle":
                return
            if time.monotonic() > end:
                logs = self._log("slurmctld") + self._log("slurmd")
                raise RuntimeError(f"the node is {done.stdout.strip() or done.stderr.strip()}, not idle{logs}")
            time.sleep(0.2)

    def _log(self, program: str) -> str:
        path = self.folder / f"{program}.log"
        return f"\n{path}:\n" + "\n".join(path.read_text().splitlines()[-10:]) if path.exists() else ""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _end(pid_file: Path, seconds: float = 20) -> None:
    """End the daemon that wrote ``pid_file`` and wait for it."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return
    end = time.monotonic() + seconds
    while _is_alive(pid):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    pid_file.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    """Running, and not merely waiting to be collected by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def main(arguments: Sequence[str]) -> int:
    """``start FOLDER`` or ``stop FOLDER``."""
    if len(arguments) != 2 or arguments[0] not in ("start", "stop"):
        print(__doc__)
        return 2
    reason = why_not()
    if reason:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    cluster = Cluster(Path(arguments[1]).absolute())
    if arguments[0] == "start":
        cluster.start()
        print(f"export SLURM_CONF={cluster.folder / 'slurm.conf'}")
    else:
        cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
