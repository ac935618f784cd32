"""The settings of where a run's processes start: ``launcher`` and ``submitit`` of ``schema.py``."""

from dataclasses import dataclass, field
from typing import Any

from sam3.errors import ConfigError
from sam3.train.setting_checks import not_negative, one_of, positive


@dataclass
class LauncherConfig:
    num_nodes: int = 1
    gpus_per_node: int = 1  # processes on a node
    sharding: str = "none"  # none, zero1 (optimizer state in parts), fsdp2 (weights and gradients, too): less memory
    experiment_log_dir: str | None = None

    def __post_init__(self) -> None:
        positive("launcher", self, ("num_nodes", "gpus_per_node"))
        one_of("launcher.sharding", self.sharding, ("none", "zero1", "fsdp2"))


@dataclass
class JobArrayConfig:
    """Several runs that differ in ``task_index``, which other keys can refer to."""

    num_tasks: int = 0  # runs of the array; 0 = one run, no array
    task_index: int = 0  # which of them this is, 0 .. num_tasks - 1; set for each run of an array

    def __post_init__(self) -> None:
        not_negative("submitit.job_array", self, ("num_tasks", "task_index"))


@dataclass
class SrunConfig:
    cpu_bind: str | None = None  # for example none, cores, verbose


@dataclass
class SubmititConfig:
    """What SLURM is asked for; null = the cluster's own default."""

    use_cluster: bool = False  # hand the run to SLURM
    name: str | None = None  # of the job; null = the name of the configuration
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    timeout_hour: float = 72.0  # time limit of the job; a run that is not done goes on in the same job, requeued
    max_timeouts: int = 20  # so often
    signal_delay_s: int = 120  # before the limit the run is told to save and leave so many seconds ahead
    cpus_per_task: int = 10  # a task is a process of the training, loader workers included
    mem_gb: float | None = None  # memory of a machine
    mem: str | None = None  # the same in SLURM's spelling, for example 64G
    constraint: str | None = None  # features that the machines must have
    include_nodes: list[str] = field(default_factory=list)
    exclude_nodes: list[str] = field(default_factory=list)
    comment: str | None = None
    srun_args: SrunConfig = field(default_factory=SrunConfig)
    sbatch: dict[str, Any] = field(default_factory=dict)  # further options of sbatch, e.g. {gres: "gpu:a100:4"}
    setup: list[str] = field(default_factory=list)  # shell lines before the start, e.g. "module load cuda"
    port_range: list[int] = field(default_factory=lambda: [10000, 65000])  # where the processes of a run meet
    job_array: JobArrayConfig = field(default_factory=JobArrayConfig)

    def __post_init__(self) -> None:
        positive("submitit", self, ("cpus_per_task", "signal_delay_s"))
        not_negative("submitit", self, ("max_timeouts",))
        if self.timeout_hour <= 0:
            raise ConfigError(f"submitit.timeout_hour is {self.timeout_hour}; expected more than 0")
        if self.mem is not None and self.mem_gb is not None:
            raise ConfigError(f"submitit.mem is {self.mem} and submitit.mem_gb is {self.mem_gb}; give one of them")
        low, high = self.port_range if len(self.port_range) == 2 else (0, 0)
        if not 0 < low <= high < 2**16:
            raise ConfigError(f"submitit.port_range is {self.port_range}; expected [lowest, highest] port")
