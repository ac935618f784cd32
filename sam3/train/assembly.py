"""From settings to a ready trainer: data, model, loss, optimizer, log, and where the run begins.

Cheap things first, so that a mistake in the data is found before gigabytes of weights are read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sam3.data.loader import Loader, build_loader
from sam3.data.prompts import phrases_of_categories
from sam3.errors import ConfigError
from sam3.io.checkpoint import ModelCard
from sam3.model_builder import resolve_device, set_tf32
from sam3.train import distributed
from sam3.train.batch_dumps import BatchDumps
from sam3.train.callbacks import Callback
from sam3.train.checkpointing import Checkpointer, RunState
from sam3.train.config_loading import LoadedConfig
from sam3.train.engine import choose_optimizer, connect, shard_model
from sam3.train.logging_setup import Curves
from sam3.train.losses.criterion import Criterion
from sam3.train.meters import LiveLine, RunningMeans
from sam3.train.model_setup import build_model
from sam3.train.optim.groups import LayerDecay, Rule
from sam3.train.optim.optimizer import ScheduledOptimizer, build_optimizer
from sam3.train.parts import build_part
from sam3.train.progress import Progress
from sam3.train.reproducibility import seed_everything
from sam3.train.resuming import (
    Beginning,
    Start,
    check_agreement,
    choose_start,
    describe_origin,
    load_start,
    load_weights,
    move_aside,
)
from sam3.train.run_log import RunLog, SilentLog
from sam3.train.schema import AmpConfig, LoggingConfig, LossConfig, OptimConfig, RuleConfig, RunConfig, SplitConfig
from sam3.train.startup_checks import (
    check_categories,
    check_data_files,
    check_feature_cache,
    check_schedule_length,
    check_weight_file,
)
from sam3.train.trainer import Precision, Trainer
from sam3.train.tuning import adapter_plan
from sam3.train.validation import Validator
from sam3.train.weight_average import WeightAverage


@dataclass(frozen=True)
class Datasets:
    """What the mode of a run needs; the other half is ``None``."""

    train: Any
    val: Any

    @property
    def categories(self) -> dict[int, str]:
        """Category id -> name."""
        return (self.train or self.val).categories


@dataclass(frozen=True)
class Foundation:
    """What a run stands on; cheap to lay, so that mistakes show before the model is built."""

    device: torch.device
    precision: Precision
    datasets: Datasets
    train_loader: Loader | None
    val_loader: Loader | None
    start: Start
    processes: int = 1

    @property
    def steps_per_epoch(self) -> int:
        return 0 if self.train_loader is None else len(self.train_loader)

    def describe(self, loaded: LoadedConfig) -> dict[str, Any]:
        """What a later restart compares with."""
        records = len(self.datasets.train or self.datasets.val)
        images_per_step = 0 if self.train_loader is None else self.train_loader.images_per_step
        return describe_origin(loaded.resolved(), records, self.start, images_per_step)


def lay_foundation(config: RunConfig, processes: int | None = None) -> Foundation:
    """Read annotations and find the checkpoint to begin with; writes nothing.

    Args:
        processes: how many will train together; None = as many as do now.
    """
    processes = processes or distributed.world_size()
    check_data_files(config)
    device = choose_device(config.trainer.accelerator)
    datasets = build_datasets(config)
    train_loader, val_loader = build_loaders(config, datasets, processes)
    if train_loader is not None:
        check_schedule_length(config.optim, len(train_loader) * config.trainer.max_epochs)
    check_feature_cache(config, 0 if datasets.train is None else len(datasets.train))
    start = choose_start(config.trainer.checkpoint, config.trainer.mode)
    if start.beginning is Beginning.FRESH:
        check_weight_file(config)
    return Foundation(
        device=device,
        precision=choose_precision(config.optim.amp, device),
        datasets=datasets,
        train_loader=train_loader,
        val_loader=val_loader,
        start=start,
        processes=processes,
    )


def build_trainer(loaded: LoadedConfig, foundation: Foundation) -> Trainer:
    """Everything of a run, at the step where it begins or goes on."""
    config, device, start = loaded.run, foundation.device, foundation.start
    check_agreement(start)
    sharding, passes = config.launcher.sharding, config.trainer.prompts_per_pass
    seed_everything(config.trainer.seed_value)
    torch.use_deterministic_algorithms(config.trainer.deterministic, warn_only=device.type != "cpu")
    model = build_model(config.model, device, with_weights=start.beginning is Beginning.FRESH)
    set_tf32(config.trainer.allow_tf32)
    if distributed.rank():  # the first weights are the same everywhere, what is drawn from here on is not
        seed_everything(config.trainer.seed_value + distributed.rank())
    load_weights(model, start)
    shard_model(model, sharding=sharding, in_passes=passes is not None)
    criterion = build_criterion(config.loss).to(device)
    optimizer = build_scheduled_optimizer(model, config.optim, sharding)
    state = RunState(
        model,
        optimizer,
        foundation.precision.scaler(),
        Progress(),
        RunningMeans(),
        WeightAverage(model, config.trainer.ema.decay) if config.trainer.ema else None,
    )
    origin = foundation.describe(loaded)
    move_aside(start)
    load_start(start, state, origin, foundation.steps_per_epoch, weights_only=config.trainer.mode == "val")
    log = build_log(config.logging, state.progress)
    return Trainer(
        model=model,
        criterion=criterion,
        network=connect(model, criterion, sharding=sharding, prompts_per_pass=passes),
        optimizer=optimizer,
        state=state,
        train_loader=foundation.train_loader,
        validator=build_validator(config, foundation.val_loader, criterion, log.live),
        checkpointer=Checkpointer(
            config.trainer.checkpoint,
            build_card(config, foundation.datasets.categories, model),
            origin,
            adapter_plan(model, config.model.tune),
        ),
        log=log,
        precision=foundation.precision,
        settings=config.trainer,
        clip=config.optim.gradient_clip,
        dumps=build_dumps(config),
        callbacks=build_callbacks(config),
    )


def build_callbacks(config: RunConfig) -> list[Callback]:
    """Those of the user, then the report, which must see what they wrote."""
    nodes = [*config.trainer.callbacks, config.logging.report]
    return [build_part(node) for node in nodes if node is not None]


def choose_device(accelerator: str) -> torch.device:
    """See :func:`sam3.model_builder.resolve_device`; its :class:`ConfigError` names the key."""
    try:
        return resolve_device(accelerator)
    except ConfigError as error:
        raise ConfigError(f"trainer.accelerator: {error}") from error


def choose_precision(amp: AmpConfig, device: torch.device) -> Precision:
    """Mixed precision on CUDA unless switched off, elsewhere only when switched on."""
    enabled = device.type == "cuda" if amp.enabled == "auto" else amp.enabled
    return Precision(device, getattr(torch, amp.dtype) if enabled else None)


def build_datasets(config: RunConfig) -> Datasets:
    """The halves of the data that the mode needs, checked against each other."""
    mode = config.trainer.mode
    datasets = Datasets(
        train=build_part(config.data.train.dataset) if mode != "val" else None,
        val=build_part(config.data.val.dataset) if mode != "train_only" else None,
    )
    check_categories(datasets.train, datasets.val)
    return datasets


def build_loaders(config: RunConfig, datasets: Datasets, processes: int) -> tuple[Loader | None, Loader | None]:
    """This process's loaders of the datasets that exist."""
    others = {"seed": config.trainer.seed_value, "processes": processes}
    train = None if datasets.train is None else _build_loader(config.data.train, datasets.train, **others)
    val = None if datasets.val is None else _build_loader(config.data.val, datasets.val, **others)
    return train, val


def _build_loader(split: SplitConfig, dataset: Any, *, seed: int, processes: int) -> Loader:
    return build_loader(
        dataset,
        batch_size=split.batch_size,
        num_workers=split.num_workers,
        shuffle=split.shuffle,
        drop_last=split.drop_last,
        pin_memory=split.pin_memory,
        seed=seed,
        rank=distributed.rank(),
        world_size=processes,
    )


def build_criterion(settings: LossConfig) -> nn.Module:
    """The configured loss terms and matchers, or the loss of the tracker's training."""
    if settings.clip is not None:
        return build_part(settings.clip)
    return Criterion(
        [build_part(term) for term in settings.terms.values()],
        build_part(settings.matcher),
        build_part(settings.o2m_matcher),
        o2m_weight=settings.o2m_weight,
        o2m_matcher_on_aux=settings.o2m_matcher_on_aux,
        scale_by_prompts=settings.scale_by_prompts,
        normalization=settings.normalization,
        semantic=build_part(settings.semantic),
    )


def build_scheduled_optimizer(model: nn.Module, settings: OptimConfig, sharding: str = "none") -> ScheduledOptimizer:
    """The optimizer with a group for every combination of rules."""
    decay = settings.layer_decay
    return build_optimizer(
        model,
        optimizer=choose_optimizer(build_part(settings.optimizer), sharding),
        options={
            "lr": [_rule(rule) for rule in settings.options.lr.values()],
            "weight_decay": [_rule(rule) for rule in settings.options.weight_decay.values()],
        },
        layer_decay=None
        if decay is None
        else LayerDecay(
            value=decay.value, apply_to=decay.apply_to, min_value=decay.min_value, overrides=decay.overrides
        ),
    )


def _rule(settings: RuleConfig) -> Rule:
    return Rule(
        schedule=build_part(settings.schedule),
        param_names=settings.param_names,
        module_classes=settings.module_classes,
    )


def build_card(config: RunConfig, categories: dict[int, str], model: nn.Module) -> ModelCard:
    """What every file of the run says about how to use it."""
    return ModelCard(
        class_names=list(categories.values()),
        prompts=list(phrases_of_categories(categories, config.data.prompts).values()),
        resolution=config.model.resolution,
        mean=tuple(config.scratch.norm_mean),
        std=tuple(config.scratch.norm_std),
        score_threshold=config.trainer.checkpoint.score_threshold,
        model_config=model.config.to_dict(),
    )


def build_validator(config: RunConfig, loader: Loader | None, criterion: nn.Module, live: LiveLine) -> Validator | None:
    """The validation of the run, if its mode has one."""
    if loader is None:
        return None
    return Validator(
        loader,
        config.trainer.validation,
        Path(config.launcher.experiment_log_dir) / "dumps" / "val",
        criterion=criterion,
        with_masks=config.model.enable_segmentation,
        live=live,
        prompts_per_pass=config.trainer.prompts_per_pass,
        best_metric=config.trainer.best_metric,
    )


def build_dumps(config: RunConfig) -> BatchDumps:
    """Where batches without a finite loss are kept."""
    folder = Path(config.launcher.experiment_log_dir) / "dumps" / "nonfinite"
    return BatchDumps(folder, config.trainer.nonfinite_dumps, distributed.rank())


def build_log(settings: LoggingConfig, progress: Progress) -> RunLog:
    """All sinks of the run; what an interrupted run wrote ahead of its checkpoint is dropped. One process has them."""
    if not distributed.is_main():
        return SilentLog()
    curves = Curves(settings.tensorboard, first_step=progress.steps)
    log = RunLog(settings, curves, LiveLine(settings.live_line))
    log.forget_what_is_repeated(progress)
    return log
