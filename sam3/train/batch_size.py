"""``scratch.train_batch_size=auto``: the largest batch of which a training step fits into the device.

Tried with real steps of the configured network on the images that ask most, before the run begins; so the first
steps cannot end in an out-of-memory error, and nothing is guessed from the size of the card.
"""

import gc
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import OmegaConf

from sam3.data.collate import collate, split_batch
from sam3.data.image_dataset import ImageDataset
from sam3.errors import ConfigError
from sam3.structures import Batch, to_device
from sam3.train import distributed
from sam3.train.assembly import build_criterion, build_datasets, build_scheduled_optimizer, choose_device
from sam3.train.assembly import choose_precision as precision_of
from sam3.train.checkpointing import LAST
from sam3.train.config_loading import LoadedConfig, check_config
from sam3.train.losses.normalization import Share
from sam3.train.model_setup import build_model
from sam3.train.prompt_passes import losses_in_passes
from sam3.train.resuming import choose_start
from sam3.train.schema import AUTO, RunConfig

_log = logging.getLogger(__name__)

ON_CPU = 2  # images; a computer's own memory is shared with everything else that runs
LARGEST = 64
MEMORY_SHARE = 0.92  # of the device, for the largest step tried; other batches differ a little


def with_batch_size(loaded: LoadedConfig) -> LoadedConfig:
    """The configuration with a number where ``auto`` stood; any other comes back as it is.

    Raises:
        ConfigError: several processes with CUDA, or not even one image fits.
    """
    config = loaded.run
    if config.scratch.train_batch_size != AUTO:
        return loaded
    size, reason = _choose(loaded)
    composed = OmegaConf.create(OmegaConf.to_container(loaded.composed))
    composed.scratch.train_batch_size = size
    note = f"scratch.train_batch_size auto: {size} images, {reason}"
    _log.info("%s", note)
    return check_config(composed, loaded.source, (*loaded.notes, note))


def largest_that_fits(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number from 1 to ``limit`` for which ``fits`` holds, 0 if none; assumes that smaller ones fit, too.

    Doubles until something fails, then halves the gap, so that few attempts fail: failing is slow.
    """
    good, size = 0, 1
    while size <= limit and fits(size):
        good, size = size, 2 * size
    bad = min(size, limit + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def fits_in_memory(step: Callable[[], int], limit_bytes: float) -> bool:
    """Whether ``step``, which returns its peak in bytes, stays within ``limit_bytes`` and the memory there is."""
    try:
        return step() <= limit_bytes
    except torch.OutOfMemoryError:
        return False
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _choose(loaded: LoadedConfig) -> tuple[int, str]:
    config = loaded.run
    earlier = _size_of_earlier_run(config)
    if earlier is not None:
        return earlier, "as this run began"
    device = choose_device(config.trainer.accelerator)
    if device.type != "cuda":
        return ON_CPU, f"the default without CUDA (on {device})"
    if distributed.is_started_by_others() or config.launcher.num_nodes * config.launcher.gpus_per_node > 1:
        raise ConfigError(
            "scratch.train_batch_size=auto tries batches in one process; with several, give the number of images of "
            "each (run once with launcher.gpus_per_node=1 and --dry-run to learn it)"
        )
    return _try_on(device, loaded)


def _size_of_earlier_run(config: RunConfig) -> int | None:
    """A run that goes on keeps its batches, or its epochs would not go on where they stopped."""
    if not (Path(config.trainer.checkpoint.save_dir) / LAST).is_file() or config.trainer.mode == "val":
        return None
    content = choose_start(config.trainer.checkpoint, config.trainer.mode).content
    return None if content is None else int(content["origin"]["config"]["data"]["train"]["batch_size"])


def _try_on(device: torch.device, loaded: LoadedConfig) -> tuple[int, str]:
    trial = Trial(loaded.run, device)
    total = total_memory(device)
    size = largest_that_fits(
        lambda images: fits_in_memory(lambda: trial.peak_bytes(images), MEMORY_SHARE * total),
        min(LARGEST, len(trial.dataset)),
    )
    if size == 0:
        raise ConfigError(
            f"scratch.train_batch_size=auto: a step with one image does not fit into {total / 2**30:.1f} GiB of "
            f"{device}; lower scratch.resolution, or train less of the network (tune=lora, tune=decoder)"
        )
    return size, f"the largest of which a step fits into {MEMORY_SHARE:.0%} of {total / 2**30:.1f} GiB"


def total_memory(device: torch.device) -> int:
    """Bytes of a CUDA device."""
    return torch.cuda.get_device_properties(device).total_memory


class Trial:
    """Training steps on the images that ask most, with a network of random weights that is thrown away."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.dataset: ImageDataset = build_datasets(config).train
        self.model = build_model(config.model, device, with_weights=False)
        self.criterion = build_criterion(config.loss).to(device)
        self.optimizer = build_scheduled_optimizer(self.model, config.optim)
        self.precision = precision_of(config.optim.amp, device)
        self.hardest = sorted(range(len(self.dataset)), key=self._demand, reverse=True)

    def peak_bytes(self, images: int) -> int:
        """Peak memory of the second of two steps, when the optimizer has its moments; 0 on a device without a count."""
        batch = collate([self.dataset.sample(index, 0) for index in self.hardest[:images]])
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        for _ in range(2):
            self._step(batch)
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0

    def _step(self, batch: Batch) -> None:
        parts = split_batch(batch, self.config.trainer.gradient_accumulation_steps)
        try:
            for part in parts:
                part = to_device(part, self.device)
                with self.precision.autocast():
                    losses = losses_in_passes(
                        self.model,
                        self.criterion,
                        part,
                        Share.whole(part.targets),
                        prompts_per_pass=self.config.trainer.prompts_per_pass,
                    )
                losses.total.backward()
            self.optimizer.step()
        finally:
            self.optimizer.zero_grad()

    def _demand(self, index: int) -> tuple[int, int]:
        record = self.dataset.records[index]
        return len(record.queries), len(record.objects)
