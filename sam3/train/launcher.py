"""Starts a run in the processes it asks for.

What is called in another process lives here, not in ``train.py``, which is ``__main__`` there.
"""

import logging

from omegaconf import OmegaConf

from sam3.errors import ConfigError
from sam3.io.files import remove_partial_files, write_text
from sam3.train.assembly import build_trainer, lay_foundation
from sam3.train.config_loading import LoadedConfig
from sam3.train.logging_setup import start_text_log, stop_text_log
from sam3.train.plan import make_plan
from sam3.train.schema import RunConfig
from sam3.train.startup_checks import check_free_disk, check_output_folder

_log = logging.getLogger(__name__)


def launch(loaded: LoadedConfig, *, dry_run: bool = False) -> None:
    """Run what the configuration asks for.

    Args:
        dry_run: print the plan and write nothing.

    Raises:
        ConfigError: more than one process, or SLURM, is asked for.
    """
    _require_one_process(loaded.run)
    if dry_run:
        print(make_plan(loaded, lay_foundation(loaded.run)))
        return
    run_in_this_process(loaded)


def _require_one_process(config: RunConfig) -> None:
    processes = config.launcher.num_nodes * config.launcher.gpus_per_node
    if config.submitit.use_cluster or processes != 1:
        where = " on SLURM" if config.submitit.use_cluster else ""
        raise ConfigError(
            f"{processes} processes{where} are asked for, but this version trains in one process on one device: set "
            "launcher.gpus_per_node=1, launcher.num_nodes=1 and "
            "submitit.use_cluster=false"
        )


def run_in_this_process(loaded: LoadedConfig) -> None:
    """Train or validate here, start to end."""
    check_output_folder(loaded.run)
    remove_partial_files(loaded.run.trainer.checkpoint.save_dir)
    start_text_log(loaded.run.logging.log_dir, loaded.run.logging.log_level_primary)
    try:
        foundation = lay_foundation(loaded.run)
        plan = make_plan(loaded, foundation)
        check_free_disk(plan.folder, plan.disk_bytes)
        _write_config(loaded)
        _log.info("plan of this run\n%s", plan)
        trainer = build_trainer(loaded, foundation)
        del foundation  # and with it the checkpoint that was read, whose file is soon replaced
        try:
            trainer.run()
        except KeyboardInterrupt:
            _log.warning("interrupted; the same command goes on from %s", trainer.checkpointer.last)
            raise
        finally:
            trainer.log.close()
    finally:
        stop_text_log()


def _write_config(loaded: LoadedConfig) -> None:
    folder = loaded.run.launcher.experiment_log_dir
    write_text(f"{folder}/config.yaml", OmegaConf.to_yaml(loaded.composed))
    write_text(f"{folder}/config_resolved.yaml", OmegaConf.to_yaml(loaded.composed, resolve=True))
