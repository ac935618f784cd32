"""What can be known to go wrong before the first step, each with one message that says what to do."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sam3.data.prompts import describe_categories
from sam3.errors import ConfigError, DataError
from sam3.train.meters import GIGABYTE
from sam3.train.model_setup import model_config
from sam3.train.schema import OptimConfig, RunConfig

_log = logging.getLogger(__name__)


def check_output_folder(config: RunConfig) -> None:
    """The output folder can be written; it is made if needed.

    Raises:
        ConfigError: naming the key.
    """
    folder = Path(config.launcher.experiment_log_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"paths.experiment_log_dir: {folder} cannot be written ({error.strerror or error}); choose another folder"
        ) from error


def check_data_files(config: RunConfig) -> None:
    """Annotation files and image folders of the splits that the mode needs exist.

    Raises:
        ConfigError: naming the key and what the folder holds instead.
    """
    root = Path(config.paths.dataset_root)
    if not root.is_dir():
        raise ConfigError(
            f"paths.dataset_root: there is no folder {root}. It must hold train/ and val/, each with images/ and "
            "annotations.json, as labelme_to_coco.py writes them"
        )
    needed = {"train": ("train", "val"), "train_only": ("train",), "val": ("val",)}[config.trainer.mode]
    for split in needed:
        dataset = getattr(config.data, split).dataset
        for key, kind in (("ann_file", "file"), ("img_folder", "folder")):
            path = Path(dataset[key]) if key in dataset else None
            if path is not None and not path.exists():
                there = ", ".join(sorted(entry.name for entry in root.iterdir())[:10]) or "nothing"
                raise ConfigError(f"data.{split}.dataset.{key}: the {kind} {path} does not exist; {root} holds {there}")


def check_feature_cache(config: RunConfig, pictures: int) -> None:
    """Features on disk are worth keeping only if the same pictures come again; says how large the folder gets.

    Args:
        pictures: training images.

    Raises:
        ConfigError: every epoch would make new versions of each image.
    """
    settings = config.model
    if settings.feature_cache is None or config.trainer.mode == "val":
        return
    variants = config.data.train.dataset.get("variants")
    if variants is None:
        raise ConfigError(
            "model.feature_cache keeps features of pictures that come again, but scratch.augmentation_variants is "
            "null: every epoch makes new random versions of each image, and none would be found. Say how many "
            "versions there are, for example scratch.augmentation_variants=4 (1 = always the same), or "
            "set model.feature_cache=null"
        )
    vision = model_config(settings).with_resolution(settings.resolution).vision
    needed = pictures * variants * vision.grid_size**2 * vision.embed_dim * 4 / GIGABYTE
    _log.log(
        logging.WARNING if needed > settings.feature_cache_gib else logging.INFO,
        "feature cache %s: %d images x %d versions need %.1f GiB, of model.feature_cache_gib %g; the random negatives "
        "of a version repeat with it",
        settings.feature_cache,
        pictures,
        variants,
        needed,
        settings.feature_cache_gib,
    )


def check_weight_file(config: RunConfig) -> None:
    """The weights to start from exist, where a file is named.

    Raises:
        ConfigError: naming the key.
    """
    path = config.model.checkpoint_path
    if path is not None and not Path(path).expanduser().exists():
        raise ConfigError(
            f"paths.checkpoint_path: there is no file {path}; name a weight file, or null for the weights of the preset"
        )


def check_categories(train: Any, val: Any) -> None:
    """Both halves of the data must mean the same by a category id."""
    if train is None or val is None or train.categories == val.categories:
        return
    raise DataError(
        f"train and val differ in their categories: {train.ann_file} has {describe_categories(train.categories)}, "
        f"{val.ann_file} has {describe_categories(val.categories)}. "
        "Convert both with one command, or make the lists equal"
    )


def check_schedule_length(optim: OptimConfig, total_steps: int) -> None:
    """A warning when learning rates never reach their configured values."""
    ramps = {
        name: sum(rule.schedule.get(key, 0) for key in ("warmup_steps", "cooldown_steps"))
        for name, rule in optim.options.lr.items()
    }
    too_long = [name for name, steps in ramps.items() if steps > total_steps]
    if too_long:
        _log.warning(
            "the run has %d steps, fewer than the warm-up and cool-down of optim.options.lr (%s: %d): learning rates "
            "never reach their configured values; lower scratch.scheduler_warmup and _cooldown or train longer",
            total_steps,
            ", ".join(too_long),
            max(ramps.values()),
        )


def check_free_disk(folder: Path, needed_bytes: int) -> None:
    """Room for what the run will write; checkpoints that are there already will be replaced.

    Raises:
        ConfigError: less is free.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free + sum(path.stat().st_size for path in folder.glob("checkpoints/*.pt"))
    if free < needed_bytes:
        raise ConfigError(
            f"paths.experiment_log_dir: {free / GIGABYTE:.1f} GiB are free in {existing}, but the checkpoints of this "
            f"run take about {needed_bytes / GIGABYTE:.1f} GiB. Make room, choose another folder, list fewer "
            "trainer.checkpoint.save_epochs, or set trainer.checkpoint.save_model_only=true and save_fp16=true"
        )
