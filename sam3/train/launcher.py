"""Starts a run in the processes it asks for.

What is called in another process lives here, not in ``train.py``, which is ``__main__`` there.
"""

import logging

from omegaconf import OmegaConf

from sam3.errors import ConfigError
from sam3.io.files import remove_partial_files, write_json, write_text
from sam3.train import distributed
from sam3.train.assembly import Foundation, build_trainer, lay_foundation
from sam3.train.batch_size import with_batch_size
from sam3.train.benchmark import describe_benchmark, run_benchmark
from sam3.train.config_loading import LoadedConfig
from sam3.train.local_processes import run_processes
from sam3.train.logging_setup import start_text_log, stop_text_log
from sam3.train.machine import MACHINE_FILE, describe_machine
from sam3.train.plan import make_plan
from sam3.train.resolvers import register_resolvers
from sam3.train.startup_checks import check_free_disk, check_output_folder

_log = logging.getLogger(__name__)


def launch(loaded: LoadedConfig, *, dry_run: bool = False) -> None:
    """Run what the configuration asks for, in the processes it asks for.

    Whoever starts the processes, each of them ends in :func:`run_rank`: torchrun (and a SLURM task) did so already,
    SLURM will, or this process starts them on its own machine.

    Args:
        dry_run: print the plan and write nothing.

    Raises:
        ConfigError: several machines without torchrun or SLURM.
    """
    loaded = with_batch_size(loaded)
    config = loaded.run
    if dry_run:
        print(_describe(loaded))
    elif distributed.is_started_by_others():
        run_rank(loaded)
    elif config.submitit.use_cluster:
        from sam3.train.slurm import submit  # whose tasks come back to this module

        submit(loaded)
    elif config.launcher.num_nodes > 1:
        raise ConfigError(
            f"launcher.num_nodes is {config.launcher.num_nodes}, but this command starts processes on its own machine "
            "only: run it under torchrun on every machine, hand it to SLURM with submitit.use_cluster=true, or set "
            "launcher.num_nodes=1"
        )
    elif config.launcher.gpus_per_node > 1:
        run_processes(loaded, config.launcher.gpus_per_node)
    else:
        run_rank(loaded)


def _describe(loaded: LoadedConfig) -> str:
    """What the run would do."""
    if loaded.run.data.benchmark is not None:
        return describe_benchmark(loaded)
    launcher = loaded.run.launcher
    processes = distributed.started_world_size() or launcher.num_nodes * launcher.gpus_per_node
    return str(make_plan(loaded, lay_foundation(loaded.run, processes)))


def run_rank(loaded: LoadedConfig) -> None:
    """Train or validate in this process, one of those that the environment speaks of (``distributed.py``)."""
    register_resolvers()  # a fresh process knows none
    trainer = loaded.run.trainer
    with distributed.process_group(trainer.distributed, trainer.accelerator):
        run_in_this_process(loaded)


def run_in_this_process(loaded: LoadedConfig) -> None:
    """Train or validate here, start to end; the main process also writes the logs and the configuration."""
    logging_settings = loaded.run.logging
    if distributed.is_main():
        check_output_folder(loaded.run)
        remove_partial_files(loaded.run.trainer.checkpoint.save_dir)
        start_text_log(logging_settings.log_dir, logging_settings.log_level_primary)
    else:
        start_text_log(None, logging_settings.log_level_secondary)
    try:
        if loaded.run.data.benchmark is not None:
            _measure_benchmark(loaded)
        else:
            _train(loaded)
    finally:
        stop_text_log()


def _train(loaded: LoadedConfig) -> None:
    foundation = lay_foundation(loaded.run)
    if distributed.is_main():
        _announce(loaded, foundation)
    trainer = build_trainer(loaded, foundation)
    del foundation  # and with it the checkpoint that was read, whose file is soon replaced
    try:
        trainer.run()
    except KeyboardInterrupt:
        _log.warning("interrupted; the same command goes on from %s", trainer.checkpointer.last)
        raise
    finally:
        trainer.log.close()


def _measure_benchmark(loaded: LoadedConfig) -> None:
    if distributed.is_main():
        _log.info("plan of this run\n%s", describe_benchmark(loaded))
        _write_config(loaded)
    run_benchmark(loaded)


def _announce(loaded: LoadedConfig, foundation: Foundation) -> None:
    """Say what the run will do, if there is room for it, and write its configuration down."""
    plan = make_plan(loaded, foundation)
    check_free_disk(plan.folder, plan.disk_bytes)
    _write_config(loaded)
    write_json(plan.folder / MACHINE_FILE, describe_machine(foundation.device), indent=1)
    _log.info("plan of this run\n%s", plan)


def _write_config(loaded: LoadedConfig) -> None:
    folder = loaded.run.launcher.experiment_log_dir
    write_text(f"{folder}/config.yaml", OmegaConf.to_yaml(loaded.composed))
    write_text(f"{folder}/config_resolved.yaml", OmegaConf.to_yaml(loaded.composed, resolve=True))
