"""Batches in a reproducible order, in this process or in workers, from any step of any epoch."""

import logging
import multiprocessing
import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sam3.data.collate import collate
from sam3.data.samples import Sample
from sam3.data.worker_signals import ignore_stop_signals
from sam3.errors import ConfigError, DataError, UserError
from sam3.structures import Batch, map_tensors

_log = logging.getLogger(__name__)


class SampleSource(Protocol):
    """A dataset whose samples depend on the epoch, such as :class:`~sam3.data.image_dataset.ImageDataset`."""

    def __len__(self) -> int: ...

    def sample(self, index: int, epoch: int) -> Sample: ...


def build_loader(
    dataset: SampleSource,
    *,
    batch_size: int,
    num_workers: int = 0,
    shuffle: bool = False,
    drop_last: bool = False,
    seed: int = 0,
    pin_memory: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> "Loader":
    """A loader of one process among ``world_size``; never an empty one.

    The processes take turns along one order, so the batches that they work on at a time are together the batch that
    one process with ``world_size * batch_size`` images would get. All make equally many steps and no record is
    repeated: a process that the last step leaves without a record gets a stand-in (:meth:`Loader.places`).

    Args:
        batch_size: images per batch of this process.
        num_workers: processes that load; 0 = this one.
        shuffle: a new order every epoch, decided by ``(seed, epoch)``.
        drop_last: leave out the last step if it is smaller. Switches itself off, with a warning, where
            that would leave nothing.
        pin_memory: page-locked memory, for a faster copy to a CUDA device; ignored without one.

    Raises:
        DataError: there is nothing to load; the message has the numbers.
    """
    if batch_size < 1 or num_workers < 0 or not 0 <= rank < world_size:
        raise ConfigError(
            "a loader needs batch_size >= 1, num_workers >= 0 and 0 <= rank < world_size; got "
            f"batch_size {batch_size}, num_workers {num_workers}, rank {rank}, world_size {world_size}"
        )
    order = EpochOrder(len(dataset), shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
    if not len(dataset):
        raise DataError(
            f"no batch to load: 0 records for world size {world_size}, batch size {batch_size}, "
            f"drop_last {drop_last}. Check the annotation file and its filters"
        )
    if drop_last and len(dataset) < batch_size * world_size:
        _log.warning(
            "drop_last is switched off: the %d records fill no step of %d (world size) times %d (batch size)",
            len(dataset),
            world_size,
            batch_size,
        )
        drop_last = False
    keys = BatchKeys(order, batch_size=batch_size, drop_last=drop_last)
    return Loader(dataset, keys, num_workers=num_workers, pin_memory=pin_memory and torch.cuda.is_available())


@dataclass(frozen=True)
class EpochOrder:
    """Which records one process sees in an epoch, and when."""

    num_records: int
    shuffle: bool
    seed: int
    rank: int
    world_size: int

    def places(self) -> range:
        """Where the records of this process stand in the order of all."""
        return range(self.rank, self.num_records, self.world_size)

    def indices(self, epoch: int) -> list[int]:
        """Record indices of the whole epoch, those of all processes."""
        order = list(range(self.num_records))
        if self.shuffle:
            random.Random(f"{self.seed}/{epoch}").shuffle(order)
        return order


class BatchKeys(Sampler):
    """The batches of one epoch as ``(epoch, record indices)``, from a given step on."""

    def __init__(self, order: EpochOrder, *, batch_size: int, drop_last: bool) -> None:
        self.order = order
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.epoch = 0
        self.start_step = 0

    def __len__(self) -> int:
        """Steps of a whole epoch, the same in every process."""
        full, rest = divmod(self.order.num_records, self.batch_size * self.order.world_size)
        return full + (rest > 0 and not self.drop_last)

    def places(self, step: int) -> range:
        """Where the records of a step stand in the order of all; empty for a stand-in."""
        return self.order.places()[step * self.batch_size : (step + 1) * self.batch_size]

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        epoch, indices = self.epoch, self.order.indices(self.epoch)
        for step in range(self.start_step, len(self)):
            yield epoch, [indices[place] for place in self.places(step)] or indices[:1]


class Loader:
    """Iterates over the batches of one epoch after the other.

    The epoch travels with the indices, so workers live as long as the loader and still draw new random
    numbers every epoch. Nothing is taken from the global random generators.
    """

    def __init__(
        self, dataset: SampleSource, keys: BatchKeys, *, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        self.dataset = dataset
        self.skipped: Counter[str] = Counter()  # reason -> number of times another sample stood in
        self._keys = keys
        with warnings.catch_warnings():  # more workers than cores is a choice of the settings
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            self._batches = DataLoader(
                _BatchSource(dataset),
                batch_size=None,
                sampler=keys,
                num_workers=num_workers,
                collate_fn=_as_is,
                pin_memory=pin_memory,
                persistent_workers=num_workers > 0,
                multiprocessing_context=_worker_context() if num_workers else None,
                worker_init_fn=ignore_stop_signals,
                generator=torch.Generator(),
            )

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        return len(self._keys)

    @property
    def batch_size(self) -> int:
        return self._keys.batch_size

    @property
    def images_per_step(self) -> int:
        """Of all processes together."""
        return self._keys.batch_size * self._keys.order.world_size

    def places(self, step: int) -> range:
        """Where the images of a step stand in the order of the epoch, the same whatever the number of processes.

        Empty: this process has no image left, its batch is a stand-in that must not count.
        """
        return self._keys.places(step)

    @property
    def epoch(self) -> int:
        return self._keys.epoch

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order and the random numbers of the next iteration."""
        self._keys.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def iterate(self, start_step: int = 0) -> Iterator[Batch]:
        """The batches of the current epoch from ``start_step`` on, exactly those of an uninterrupted epoch.

        Raises:
            DataError: a sample cannot be used and the dataset does not replace it.
        """
        if not 0 <= start_step <= len(self):
            raise ValueError(f"start_step must be in 0..{len(self)}, got {start_step}")
        self._keys.start_step = start_step
        for loaded in self._batches:
            if loaded.error is not None:
                raise DataError(loaded.error)
            self._report(loaded.skipped)
            yield loaded.batch

    def _report(self, reasons: Sequence[str]) -> None:
        for reason in reasons:
            if reason not in self.skipped:
                _log.warning("%s; the next usable image takes its place", reason)
            self.skipped[reason] += 1


@dataclass
class _LoadedBatch:
    """What a worker sends: a batch and what was wrong on the way, or the error that prevented it."""

    batch: Batch | None = None
    skipped: tuple[str, ...] = ()
    error: str | None = None

    def pin_memory(self) -> "_LoadedBatch":
        """Called by the data loader."""
        return replace(self, batch=map_tensors(self.batch, Tensor.pin_memory))


class _BatchSource(Dataset):
    """One item is one collated batch. An error of the user is sent as a text: raised in a worker, it would reach the
    main process full of tracebacks, and an exception kept alive by its own traceback delays the end of the workers."""

    def __init__(self, dataset: SampleSource) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, list[int]]) -> _LoadedBatch:
        epoch, indices = key
        try:
            samples = [self.dataset.sample(index, epoch) for index in indices]
            return _LoadedBatch(collate(samples), tuple(reason for sample in samples for reason in sample.skipped))
        except UserError as error:
            return _LoadedBatch(error=str(error))


def _as_is(value: _LoadedBatch) -> _LoadedBatch:
    return value


def _worker_context() -> BaseContext:
    """Workers start from a clean process: a fork of this one could inherit locked locks of its threads."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sam3.data.worker_forkserver", "sam3.data.image_dataset", "torch.utils.data"])
    return context
