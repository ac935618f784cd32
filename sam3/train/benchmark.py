"""Predictions on an SA-Co benchmark: every phrase of every picture or video -> one file -> its metrics.

Each process keeps a journal of finished items (pictures, or videos), so that an interrupted run goes on where it
stopped, with any number of processes, and ends with the very file of an uninterrupted one. What is predicted and
measured is said by the benchmark (``image_benchmark.py``, ``video_benchmark.py``).
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from sam3.errors import ConfigError
from sam3.train import distributed
from sam3.train.benchmark_folder import BenchmarkFolder, Record
from sam3.train.config_loading import LoadedConfig
from sam3.train.image_benchmark import ImageBenchmark
from sam3.train.logging_setup import JsonLines
from sam3.train.schema import RunConfig
from sam3.train.startup_checks import check_data_files, check_weight_file
from sam3.train.video_benchmark import VideoBenchmark

_log = logging.getLogger(__name__)


class Benchmark(Protocol):
    """One split and how it is answered."""

    unit: str  # what an item is called, in the plural
    predictions: Path

    def __len__(self) -> int:
        """Items."""
        ...

    def identity(self) -> dict[str, Any]:
        """Everything that decides what is predicted, beside weights and precision."""
        ...

    def shares(self, items: Sequence[int], count: int) -> list[list[int]]:
        """``items`` dealt out to ``count`` processes."""
        ...

    def predict(self, items: Sequence[int]) -> Iterator[list[Record]]:
        """The records of each item, in that order."""
        ...

    def measure(self) -> dict[str, float]:
        """Metrics of the prediction file."""
        ...

    def summary(self, metrics: dict[str, float]) -> str:
        """The numbers that tables publish."""
        ...

    def describe(self) -> list[str]:
        """What is going to be asked, one line each."""
        ...


def run_benchmark(loaded: LoadedConfig) -> dict[str, float]:
    """Predict, merge, measure; returns the metrics (empty without ground truth files, and beside process 0).

    Raises:
        ConfigError: the mode is not ``val``, masks are switched off, or the folder holds other predictions.
    """
    config = loaded.run
    _check(config)
    benchmark = _benchmark(config)
    folder = Path(config.launcher.experiment_log_dir) / "dumps" / config.data.benchmark.name
    run = BenchmarkFolder(folder, benchmark.predictions, benchmark.identity())
    if not run.is_complete():
        predict(config.data.benchmark.name, benchmark, run)
        if distributed.is_main():
            run.merge(len(benchmark))
        distributed.barrier()
    return measure(config, benchmark) if distributed.is_main() else {}


def describe_benchmark(loaded: LoadedConfig) -> str:
    """What :func:`run_benchmark` is going to do; errors as there."""
    _check(loaded.run)
    return "\n".join([f"configuration   {loaded.source}", *_benchmark(loaded.run).describe()])


def predict(name: str, benchmark: Benchmark, run: BenchmarkFolder) -> None:
    """Predict on this process's share of what is left; every finished item is on disk at once."""
    finished = {item for item, _ in run.finished()}
    distributed.barrier()  # nobody writes before everybody has read
    remaining = [item for item in range(len(benchmark)) if item not in finished]
    mine = benchmark.shares(remaining, distributed.world_size())[distributed.rank()]
    if finished:
        _log.info("%d of %d %s are finished already", len(finished), len(benchmark), benchmark.unit)
    if mine:
        journal = run.journal()
        with tqdm(total=len(mine), desc=name, unit=benchmark.unit[:-1], disable=not distributed.is_main()) as bar:
            for item, records in zip(mine, benchmark.predict(mine), strict=True):
                journal.append({"item": item, "records": records})
                bar.update()
        journal.close()
    distributed.barrier()


def measure(config: RunConfig, benchmark: Benchmark) -> dict[str, float]:
    """The metrics of the written file; also logged and appended to ``val_stats.json``."""
    name = config.data.benchmark.name
    if not config.data.benchmark.gt_files:
        _log.info("predictions: %s; no data.benchmark.gt_files, so nothing is measured", benchmark.predictions)
        return {}
    metrics = benchmark.measure()
    JsonLines(Path(config.logging.log_dir) / "val_stats.json").append(
        {f"Meters_val/{name}/{key}": value for key, value in metrics.items()} | {"Trainer/epoch": 0}
    )
    _log.info("%s: %s\n%s", name, benchmark.predictions, benchmark.summary(metrics))
    return metrics


def _benchmark(config: RunConfig) -> Benchmark:
    return ImageBenchmark(config) if config.data.benchmark.video is None else VideoBenchmark(config)


def _check(config: RunConfig) -> None:
    if config.trainer.mode != "val":
        raise ConfigError(
            f"data.benchmark needs trainer.mode=val, got {config.trainer.mode}; a benchmark is not trained"
        )
    if not config.model.enable_segmentation:
        raise ConfigError("data.benchmark writes masks: scratch.enable_segmentation must be true")
    check_data_files(config)
    check_weight_file(config)
    for path in config.data.benchmark.gt_files:
        if not Path(path).is_file():
            raise ConfigError(f"data.benchmark.gt_files: there is no file {path}")
