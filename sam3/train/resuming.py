"""Where a run begins: at its own rolling file, at a given checkpoint, from given weights, or afresh.

Semantics: spec/config_surface.md section 4 and design decision 10.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from torch import nn

from sam3.errors import CheckpointError, ConfigError
from sam3.io.checkpoint import load_into, read_checkpoint
from sam3.io.checkpoint_files import is_safetensors, read_torch_archive
from sam3.io.files import fingerprint
from sam3.io.low_rank import PREFIX
from sam3.model.low_rank import has_adapters
from sam3.train import distributed
from sam3.train.checkpointing import FORMAT, LAST, RunState
from sam3.train.progress import Progress
from sam3.train.reproducibility import restore_own_random_state
from sam3.train.schema import CheckpointConfig
from sam3.train.weight_average import NO_AVERAGES

_log = logging.getLogger(__name__)

# Settings that may differ between a run and its continuation without a word.
_UNREMARKABLE = (
    "logging.", "launcher.", "submitit.", "paths.experiment_log_dir", "trainer.checkpoint.", "trainer.callbacks",
    "trainer.distributed.",
    "scratch.num_", "data.train.num_workers", "data.val.num_workers", "scratch.max_epochs",
)  # fmt: skip


class Beginning(Enum):
    """How a run begins."""

    FRESH = "the configured weights"
    RESUME = "a complete checkpoint"
    WEIGHTS = "weights only"


@dataclass(frozen=True)
class Start:
    """The decision, made before the model is built."""

    beginning: Beginning
    path: Path | None = None
    content: Mapping[str, Any] | None = None  # of a complete checkpoint
    continues_rolling: bool = False  # path is the run's own last.pt
    displaced: Path | None = None  # rolling file of another origin, to be moved aside


def choose_start(settings: CheckpointConfig, mode: str) -> Start:
    """Decide where a run begins; nothing is changed on disk.

    Raises:
        ConfigError: ``resume_from`` and the rolling file contradict each other.
        CheckpointError: a file that is named does not exist or is damaged.
    """
    last = Path(settings.save_dir) / LAST
    given = Path(settings.resume_from).expanduser() if settings.resume_from else None
    if given is None or _is_same_file(given, last):
        if last.is_file():
            return _from_rolling(last)
        if given is None:
            return Start(Beginning.FRESH)
        raise CheckpointError(_missing(given))
    if mode == "val" or not last.is_file():
        return _from_file(given)
    return _with_rolling_file(settings, last, given)


def _with_rolling_file(settings: CheckpointConfig, last: Path, given: Path) -> Start:
    """Both a rolling file and another ``resume_from``: they must belong together, or the user decides."""
    rolling = _from_rolling(last)
    descent = rolling.content["origin"]["descends_from"]
    if descent is not None and _is_descent(descent, given):
        _log.info("continuing %s, which descends from %s", last, given)
        return rolling
    if settings.on_conflict == "keep":
        _log.info("trainer.checkpoint.on_conflict=keep: continuing %s; %s is not used", last, given)
        return rolling
    if settings.on_conflict == "restart":
        start = _from_file(given)
        return replace(start, displaced=last)
    came_from = f"descends from {descent['path']}" if descent else "was started without resume_from"
    raise ConfigError(
        f"trainer.checkpoint.resume_from is {given}, but {last} is there already and {came_from}. Say which counts: "
        "trainer.checkpoint.on_conflict=keep continues last.pt, trainer.checkpoint.on_conflict=restart starts again "
        "from resume_from (the old last.pt is renamed, not deleted). Or choose another paths.experiment_log_dir"
    )


def _is_descent(descent: Mapping[str, str], given: Path) -> bool:
    """Whether ``given`` is the recorded file: by its place, or by its content if it was moved."""
    if descent["path"] == str(given.resolve()):
        return True
    return given.exists() and descent["digest"] == fingerprint(given)


def _from_rolling(last: Path) -> Start:
    start = _from_file(last)
    if start.content is None:
        raise CheckpointError(f"{last} is not a complete training checkpoint; move it away to start a new run here")
    return replace(start, continues_rolling=True)


def _from_file(path: Path) -> Start:
    if not path.exists():
        raise CheckpointError(_missing(path))
    content = _read_complete(path)
    return Start(Beginning.WEIGHTS if content is None else Beginning.RESUME, path, content)


def _missing(path: Path) -> str:
    found = sorted(file.name for file in path.parent.glob("*.pt")) if path.parent.is_dir() else []
    return (
        f"trainer.checkpoint.resume_from: {path} does not exist. "
        f"Checkpoints found in that folder: {', '.join(found) or 'none'}"
    )


def _is_same_file(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()


def _read_complete(path: Path) -> Mapping[str, Any] | None:
    """Content of a complete checkpoint of ours; None for any other file, which may still hold weights."""
    if not path.is_file() or is_safetensors(path):
        return None
    content = read_torch_archive(path)
    return content if isinstance(content, Mapping) and content.get("format") == FORMAT else None


def check_agreement(start: Start) -> None:
    """Machines that do not share the output folder would train apart, or wait for each other, without a word.

    Raises:
        CheckpointError: the processes found different checkpoints.
    """
    mine = (str(start.path), start.content["progress"] if start.content else None)
    main = distributed.broadcast_object(mine)
    if distributed.any_true(mine != main):
        raise CheckpointError(
            f"the processes found different checkpoints: process {distributed.rank()} has {mine[0]}, process 0 has "
            f"{main[0]} ({_counted(mine[1])} and {_counted(main[1])}). Give all machines the same folder as "
            "paths.experiment_log_dir"
        )


def _counted(progress: Mapping[str, Any] | None) -> str:
    return "no progress" if progress is None else f"epoch {progress['epoch']}, step {progress['step_in_epoch']}"


def move_aside(start: Start) -> None:
    """Rename the rolling file of another origin, so that nothing overwrites it."""
    distributed.barrier()  # the others have found it, too
    if start.displaced is None or not distributed.is_main():
        return
    numbers = iter(range(1, 10**6))
    free = next(
        path for n in numbers if not (path := start.displaced.with_name(f"last_before_restart_{n}.pt")).exists()
    )
    start.displaced.rename(free)
    _log.warning("trainer.checkpoint.on_conflict=restart: the old %s is now %s", start.displaced.name, free.name)


def load_start(
    start: Start, state: RunState, origin: Mapping[str, Any], steps_per_epoch: int, *, weights_only: bool = False
) -> None:
    """Bring ``state`` to where ``start`` says; random generators last, so that nothing draws in between.

    Args:
        weights_only: leave optimizer and random generators alone, as validation needs neither.

    Raises:
        CheckpointError: the optimizer of the file does not fit this run.
    """
    content = start.content
    if state.average is not None:  # without saved averages they begin with the weights of the file
        state.average.load_state_dict((content or {}).get("average") or NO_AVERAGES)
    if content is None:
        return
    _take_over(state.progress, Progress.from_dict(content["progress"]))
    if weights_only:
        return
    state.optimizer.load_state_dict(content["optimizer"])
    state.scaler.load_state_dict(content["scaler"])
    state.means.load_state_dict(content["means"])
    _adapt_to_changes(state, content["origin"], origin, steps_per_epoch)
    _log.info(
        "resumed %s: %d epochs and %d steps of the next one are done",
        start.path,
        state.progress.epoch,
        state.progress.step_in_epoch,
    )
    _restore_random(content["random"], seed=origin["config"]["trainer"]["seed_value"] + state.progress.steps)


def _restore_random(saved: Any, seed: int) -> None:
    states = [saved] if isinstance(saved, Mapping) else saved  # files of one process used to hold a single state
    if len(states) != distributed.world_size():
        _log.warning(
            "resuming with %d instead of %d processes: random numbers of the model (dropout) are others from here on",
            distributed.world_size(),
            len(states),
        )
    restore_own_random_state(states, seed + distributed.rank())


def load_weights(model: nn.Module, start: Start) -> None:
    """The weights of ``start``, if it has a file, before the processes share the model.

    Adapters are kept apart if ``model`` has some; weights alone need not hold any.

    Raises:
        CheckpointError: the file does not fit the model.
    """
    if start.path is None:
        return
    adapting = has_adapters(model)
    checkpoint = read_checkpoint(start.path, merge_adapters=not adapting)
    may_be_missing = [rf".*\.{PREFIX}\w+\.(down|up|scale)"] if adapting and start.content is None else []
    load_into(model, checkpoint, allow_missing=may_be_missing)
    if start.content is None:
        _log.info("%s holds weights only: training starts at epoch 0 from them", start.path)


def _take_over(progress: Progress, saved: Progress) -> None:
    for name, value in saved.to_dict().items():
        setattr(progress, name, value)


def _adapt_to_changes(state: RunState, old: Mapping[str, Any], new: Mapping[str, Any], steps_per_epoch: int) -> None:
    """Name changed settings; begin the epoch anew when the order of its images is no longer the same."""
    for line in changed_settings(old["config"], new["config"]):
        _log.warning("resuming with a changed setting: %s", line)
    progress = state.progress
    if progress.step_in_epoch and old["data_digest"] != new["data_digest"]:
        _log.warning("the training data or their order changed: epoch %d begins anew", progress.epoch)
        progress.step_in_epoch = 0
        state.means.reset()
    _adapt_to_images_per_step(progress, _images_per_step(old), new["images_per_step"], steps_per_epoch)
    progress.steps = progress.epoch * steps_per_epoch + progress.step_in_epoch


def _images_per_step(origin: Mapping[str, Any]) -> int:
    """Older files do not say: one process wrote them."""
    return origin.get("images_per_step") or origin["config"]["data"]["train"]["batch_size"]


def _adapt_to_images_per_step(progress: Progress, old: int, new: int, steps_per_epoch: int) -> None:
    """The images that the epoch has had are fewer steps when a step takes more, of more processes or larger batches."""
    if old == new:
        return
    done = min(progress.step_in_epoch * old // new, steps_per_epoch)
    repeated = max(0, progress.step_in_epoch * old - done * new)
    _log.warning(
        "a step now takes %d images instead of %d, and learning rates follow the steps; of the current epoch %d of %d "
        "steps are done%s",
        new,
        old,
        done,
        steps_per_epoch,
        f", {repeated} images are seen again" if repeated else "",
    )
    progress.step_in_epoch = done


def describe_origin(
    config: Mapping[str, Any], num_records: int, start: Start, images_per_step: int = 0
) -> dict[str, Any]:
    """What a restart compares with: the settings, the order of the data, the file the run descends from."""
    loading = ("num_workers", "pin_memory", "batch_size", "drop_last")
    train = {key: value for key, value in config["data"]["train"].items() if key not in loading}
    order = {"data": train, "seed": config["trainer"]["seed_value"], "records": num_records}
    return {
        "config": config,
        "config_digest": _digest(config),
        "data_digest": _digest(order),
        "images_per_step": images_per_step,  # of all processes
        "descends_from": _descent(start),
    }


def _descent(start: Start) -> dict[str, str] | None:
    if start.path is None:
        return None
    if start.continues_rolling:
        return start.content["origin"]["descends_from"]
    return {"path": str(start.path.resolve()), "digest": fingerprint(start.path)}


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``key: old -> new`` of every setting that could change the outcome."""
    before, after = _flat(old), _flat(new)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in keys
        if not key.startswith(_UNREMARKABLE)
    ]


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, Mapping):
        return {prefix: node}
    return {
        name: leaf
        for key, value in node.items()
        for name, leaf in _flat(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
