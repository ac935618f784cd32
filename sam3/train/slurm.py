"""Hands a run, or an array of runs, to SLURM. What its tasks do is in ``slurm_task.py``.

One task is one process of the training. A job that is preempted or reaches its time limit is requeued and continues
from the rolling checkpoint of its run. Source: spec/training.md 1.4, with the defects of its section 12 mended.
"""

import copy
import math
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sam3.errors import ConfigError
from sam3.train.config_loading import REPOSITORY, LoadedConfig, check_config
from sam3.train.schema import RunConfig
from sam3.train.slurm_task import SlurmTask
from sam3.train.startup_checks import check_data_files, check_output_folder

LOG_FOLDER = "submitit_logs"


@dataclass(frozen=True)
class Submission:
    """A job, or one of an array, in SLURM's queue."""

    job_id: str
    run_folder: Path
    log: Path  # what process 0 prints; its errors are beside it


def submit(loaded: LoadedConfig) -> list[Submission]:
    """Put the run, or each run of the array, into the queue, and print how to follow it.

    Raises:
        ConfigError: there is no SLURM here, it refuses the job, or settings contradict each other.
    """
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "submitit.use_cluster: there is no SLURM here (the command sbatch is not found). Start the run on a login "
            "machine of the cluster, or train on this machine with submitit.use_cluster=false (--use-cluster 0)"
        )
    runs = array_runs(loaded) if loaded.run.submitit.job_array.num_tasks else [loaded]
    parameters = executor_parameters(loaded.run, Path(loaded.source).stem)
    for run in runs:
        check_output_folder(run.run)
        check_data_files(run.run)
    jobs = _send(runs, parameters, loaded.run.submitit.max_timeouts)
    submissions = [
        Submission(job.job_id, run_folder(run), job.paths.stdout) for run, job in zip(runs, jobs, strict=True)
    ]
    print(announcement(submissions, loaded.run))
    return submissions


def run_folder(loaded: LoadedConfig) -> Path:
    """Where the run writes."""
    return Path(loaded.run.launcher.experiment_log_dir).absolute()


# --- job arrays ---


def array_runs(loaded: LoadedConfig) -> list[LoadedConfig]:
    """The runs of a job array, each resolved with its own ``task_index`` and in a folder of its own.

    A folder that does not depend on the index is divided into ``task_0``, ``task_1``, ...
    """
    count = loaded.run.submitit.job_array.num_tasks
    runs = [_with_value(loaded, "submitit.job_array.task_index", index) for index in range(count)]
    if len({run_folder(run) for run in runs}) == count:
        return runs
    return [
        _with_value(run, "launcher.experiment_log_dir", str(run_folder(run) / f"task_{index}"))
        for index, run in enumerate(runs)
    ]


def _with_value(loaded: LoadedConfig, key: str, value: Any) -> LoadedConfig:
    composed = copy.deepcopy(loaded.composed)
    OmegaConf.update(composed, key, value)
    return check_config(composed, loaded.source, loaded.notes)


# --- the job ---


def executor_parameters(config: RunConfig, name: str) -> dict[str, Any]:
    """What submitit is told; what the user leaves open is left to the cluster.

    Args:
        name: of the job, unless the settings have one.

    Raises:
        ConfigError: fewer machines are named than are needed.
    """
    settings, launcher = config.submitit, config.launcher
    if settings.include_nodes and len(settings.include_nodes) < launcher.num_nodes:
        raise ConfigError(
            f"submitit.include_nodes names {len(settings.include_nodes)} machines ({', '.join(settings.include_nodes)})"
            f", but launcher.num_nodes is {launcher.num_nodes}"
        )
    binding = settings.srun_args.cpu_bind
    parameters = {
        "name": settings.name or name,
        "timeout_min": math.ceil(60 * settings.timeout_hour),
        "nodes": launcher.num_nodes,
        "tasks_per_node": launcher.gpus_per_node,
        "gpus_per_node": None if config.trainer.accelerator == "cpu" else launcher.gpus_per_node,
        "cpus_per_task": settings.cpus_per_task,
        "mem_gb": settings.mem_gb,
        "slurm_mem": settings.mem,
        "slurm_partition": settings.partition,
        "slurm_account": settings.account,
        "slurm_qos": settings.qos,
        "slurm_constraint": settings.constraint,
        "slurm_nodelist": ",".join(settings.include_nodes) or None,
        "slurm_exclude": ",".join(settings.exclude_nodes) or None,
        "slurm_comment": settings.comment,
        "slurm_signal_delay_s": settings.signal_delay_s,
        "slurm_setup": [*_python_path(), *settings.setup],
        # A process that fails takes the others with it, so that nobody waits for it.
        "slurm_srun_args": ["--kill-on-bad-exit=1", *(["--cpu-bind", binding] if binding else [])],
        "slurm_additional_parameters": {"requeue": True, **settings.sbatch},
    }
    return {key: value for key, value in parameters.items() if value is not None}


def _python_path() -> list[str]:
    """Shell lines that let a task find this very package where it is not installed."""
    if REPOSITORY.name == "site-packages":
        return []
    return [f'export PYTHONPATH={shlex.quote(str(REPOSITORY))}"${{PYTHONPATH:+:$PYTHONPATH}}"']


def _send(runs: Sequence[LoadedConfig], parameters: Mapping[str, Any], max_timeouts: int) -> list[Any]:
    """submitit's job of each run."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    folder = Path(os.path.commonpath([run_folder(run) for run in runs])) / LOG_FOLDER
    executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=max_timeouts)
    executor.update_parameters(**parameters)
    try:
        if len(runs) == 1:
            return [executor.submit(SlurmTask(), runs[0])]
        with executor.batch():
            jobs = [executor.submit(SlurmTask(), run) for run in runs]
        return jobs
    except (FailedJobError, FailedSubmissionError) as error:
        reason = str(error).strip() or "it gives no reason"
        raise ConfigError(f"SLURM refuses the job: {reason}. Correct the settings in submitit.*") from error


def announcement(submissions: Sequence[Submission], config: RunConfig) -> str:
    """What was handed over, how to watch it and how to end it."""
    launcher = config.launcher
    job_id = submissions[0].job_id.split("_")[0]
    size = f"{launcher.num_nodes} x {launcher.gpus_per_node} processes, at most {config.submitit.timeout_hour:g} h a go"
    lines = [f"submitted job {job_id}: {len(submissions)} run{'s' * (len(submissions) > 1)} of {size}"]
    for one in submissions:
        lines += [
            f"run {one.job_id}",
            f"  folder   {one.run_folder}",
            f"  output   {one.log} (errors: {one.log.with_suffix('.err').name}; a file for each process)",
        ]
    first = submissions[0]
    return "\n".join(
        [
            *lines,
            f"watch      squeue -j {job_id}; tail -F {shlex.quote(str(first.run_folder / 'logs' / 'log.txt'))}",
            f"cancel     scancel {job_id}",
            "After preemption or its time limit the job is requeued and goes on from checkpoints/last.pt.",
        ]
    )
