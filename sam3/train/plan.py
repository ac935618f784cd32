"""What a run is going to do, said before it does it (``--dry-run``)."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from sam3.train.assembly import Datasets, Foundation, build_scheduled_optimizer
from sam3.train.config_loading import LoadedConfig
from sam3.train.meters import GIGABYTE
from sam3.train.model_setup import build_model
from sam3.train.resuming import Start
from sam3.train.schema import CheckpointConfig, RunConfig, TrainerConfig

_FULL, _HALF = 4, 2  # bytes of a number
_MOMENTS = 2  # of AdamW, each as large as the trainable weights


@dataclass(frozen=True)
class Plan:
    """Sizes in numbers and bytes."""

    source: str
    mode: str
    device: str
    precision: str
    begins_with: str
    classes: list[str]
    train_images: int
    train_queries: int
    val_images: int
    val_queries: int
    steps_per_epoch: int
    epochs: int
    batch_size: int  # of one process
    processes: int
    accumulation: int
    resolution: int
    trainable: int  # parameters
    frozen: int
    groups: int  # of the optimizer
    rolling_bytes: int
    export_bytes: int
    exports: int  # files beside last.pt, best.pt included
    folder: Path
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def disk_bytes(self) -> int:
        """Most that the checkpoints take at once: a new file is complete before the old one goes."""
        return 2 * self.rolling_bytes + (self.exports + 1) * self.export_bytes

    def __str__(self) -> str:
        lines = [
            f"configuration   {self.source}",
            *(f"note            {note}" for note in self.notes),
            f"mode            {self.mode} on {self.device}, {self.precision}",
            f"begins with     {self.begins_with}",
            f"classes         {', '.join(self.classes)}",
            f"training data   {self.train_images} images, {self.train_queries} queries",
            f"validation data {self.val_images} images, {self.val_queries} queries",
            f"steps           {self.epochs} epochs x {self.steps_per_epoch} = {self.epochs * self.steps_per_epoch}, "
            f"batches of {self.batch_size} images"
            + (f" in each of {self.processes} processes" if self.processes > 1 else "")
            + (f" in {self.accumulation} parts" if self.accumulation > 1 else ""),
            f"input           {self.resolution} x {self.resolution} pixels",
            f"parameters      {self.trainable:,} trainable in {self.groups} groups, {self.frozen:,} frozen",
            f"checkpoints     {self.folder / 'checkpoints'}: last.pt {size_text(self.rolling_bytes)}, {self.exports} "
            f"exports of {size_text(self.export_bytes)}; at most {size_text(self.disk_bytes)} on disk",
            f"logs            {self.folder / 'logs'}",
            f"curves          {self.folder / 'tensorboard'}",
            f"predictions     {self.folder / 'dumps' / 'val'}",
        ]
        return "\n".join(lines)


def make_plan(loaded: LoadedConfig, foundation: Foundation) -> Plan:
    """Work out the plan; writes nothing and builds the model without memory."""
    config, datasets = loaded.run, foundation.datasets
    with torch.device("meta"):
        model = build_model(config.model, "meta", with_weights=False)
    trainable, frozen = count_parameters(model)
    rolling, export = checkpoint_sizes(config.trainer, trainable, trainable + frozen)
    return Plan(
        source=loaded.source,
        notes=loaded.notes,
        mode=config.trainer.mode,
        device=str(foundation.device),
        precision=precision_text(foundation.precision.dtype),
        begins_with=_beginning(foundation.start, config),
        classes=list(datasets.categories.values()),
        **_data_sizes(datasets),
        steps_per_epoch=foundation.steps_per_epoch,
        epochs=config.trainer.max_epochs,
        batch_size=config.data.train.batch_size,
        processes=foundation.processes,
        accumulation=config.trainer.gradient_accumulation_steps,
        resolution=config.model.resolution,
        trainable=trainable,
        frozen=frozen,
        groups=len(build_scheduled_optimizer(model, config.optim).groups),
        rolling_bytes=rolling,
        export_bytes=export,
        exports=count_exports(config.trainer.checkpoint, config.trainer.max_epochs) + (datasets.val is not None),
        folder=Path(config.launcher.experiment_log_dir),
    )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, frozen) parameters."""
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trainable, total - trainable


def checkpoint_sizes(settings: TrainerConfig, trainable: int, total: int) -> tuple[int, int]:
    """Bytes of ``last.pt`` and of an export."""
    state = (_MOMENTS + (settings.ema is not None)) * _FULL * trainable
    rolling = _FULL * total + state
    weights = (_HALF if settings.checkpoint.save_fp16 else _FULL) * total
    return rolling, weights if settings.checkpoint.save_model_only else weights + state


def count_exports(settings: CheckpointConfig, max_epochs: int) -> int:
    """Files ``checkpoint_<k>.pt`` that a whole run writes."""
    regular = range(settings.save_freq, max_epochs + 1, settings.save_freq) if settings.save_freq else ()
    return len({epoch for epoch in (*regular, *settings.save_epochs) if epoch <= max_epochs})


def _data_sizes(datasets: Datasets) -> dict[str, int]:
    sizes = {}
    for name, dataset in (("train", datasets.train), ("val", datasets.val)):
        sizes[f"{name}_images"] = 0 if dataset is None else dataset.num_images
        sizes[f"{name}_queries"] = 0 if dataset is None else dataset.num_queries
    return sizes


def precision_text(dtype: torch.dtype | None) -> str:
    """Of a step, for people; None = no autocast."""
    return "float32" if dtype is None else f"mixed {str(dtype).removeprefix('torch.')}"


def _beginning(start: Start, config: RunConfig) -> str:
    if start.path is not None:
        return f"{start.path} ({start.beginning.value})"
    if config.model.checkpoint_path:
        return config.model.checkpoint_path
    released = config.model.load_from_HF and config.model.preset == "sam3"
    return "the released weights (download)" if released else "random weights"


def size_text(count: int) -> str:
    """Bytes, for people."""
    return f"{count / GIGABYTE:.2f} GiB" if count >= GIGABYTE else f"{count / 2**20:.1f} MiB"
