"""Predictions on an SA-Co image benchmark: every phrase of every picture -> one file -> cgF1.

Pictures are encoded once for all their phrases. Each process keeps a journal of finished pictures, so that an
interrupted run goes on where it stopped, with any number of processes, and ends with the very file of an
uninterrupted one. Source: spec/evaluation.md 6.1 and 8.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sam3.data.loader import build_loader
from sam3.data.saco_dataset import SacoImageDataset
from sam3.data.samples import Sample
from sam3.errors import ConfigError
from sam3.eval.cgf1_files import evaluate_files
from sam3.eval.prediction_file import Record, pair_records
from sam3.io.files import fingerprint, read_json, write_json
from sam3.io.journal import Journal, read_journal
from sam3.model.detector.detector import Sam3Image
from sam3.model.postprocess import detections
from sam3.structures import Batch, DetectorOutput, to_device
from sam3.train import distributed
from sam3.train.assembly import choose_device, choose_precision
from sam3.train.config_loading import LoadedConfig
from sam3.train.logging_setup import JsonLines
from sam3.train.model_setup import build_model
from sam3.train.parts import build_part
from sam3.train.schema import BenchmarkConfig, RunConfig
from sam3.train.startup_checks import check_data_files, check_weight_file
from sam3.train.trainer import Precision

_log = logging.getLogger(__name__)

PREDICTIONS = "coco_predictions_segm.json"
_IOU_TYPES = ("segm", "bbox")


def run_benchmark(loaded: LoadedConfig) -> dict[str, float]:
    """Predict, merge, measure; returns the metrics (empty without ground truth files, and beside process 0).

    Raises:
        ConfigError: the mode is not ``val``, masks are switched off, or the folder holds other predictions.
    """
    config = loaded.run
    _check(config)
    dataset = build_part(config.data.val.dataset)
    run = BenchmarkFolder(_folder(config), identity(config, dataset))
    if not run.is_complete():
        predict(config, dataset, run)
        if distributed.is_main():
            run.merge(dataset)
        distributed.barrier()
    return measure(config, run.predictions) if distributed.is_main() else {}


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


def describe_benchmark(loaded: LoadedConfig) -> str:
    """What :func:`run_benchmark` is going to do; errors as there."""
    config, benchmark = loaded.run, loaded.run.data.benchmark
    _check(config)
    dataset: SacoImageDataset = build_part(config.data.val.dataset)
    device = choose_device(config.trainer.accelerator)
    lines = [
        f"configuration   {loaded.source}",
        f"benchmark       {benchmark.name}: {len(dataset)} pictures, {dataset.num_queries} pairs",
        f"annotators      {len(benchmark.gt_files)}",
        f"weights         {config.model.checkpoint_path or 'of the preset ' + config.model.preset}",
        f"input           {config.model.resolution} x {config.model.resolution} pixels on {device}, batches of "
        f"{config.data.val.batch_size} pictures, {benchmark.phrases_at_once} phrases at once",
        f"predictions     {_folder(config) / PREDICTIONS}, scores above {benchmark.score_threshold}",
    ]
    return "\n".join(lines)


def _folder(config: RunConfig) -> Path:
    return Path(config.launcher.experiment_log_dir) / "dumps" / config.data.benchmark.name


def identity(config: RunConfig, dataset: SacoImageDataset) -> dict[str, Any]:
    """Everything that decides what is predicted; results of different descriptions are never mixed."""
    weights = config.model.checkpoint_path
    return {
        "weights": "released" if weights is None else fingerprint(Path(weights).expanduser()),
        "annotations": fingerprint(dataset.ann_file),
        "pairs": dataset.num_queries,
        "resolution": config.model.resolution,
        "score_threshold": config.data.benchmark.score_threshold,
        "use_presence": config.trainer.validation.use_presence,
        "precision": f"{config.optim.amp.enabled} {config.optim.amp.dtype}",
    }


# --- what is on disk ---


class BenchmarkFolder:
    """Journals while it runs, one prediction file at the end."""

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self.folder = folder
        self.description = description
        self.predictions = folder / PREDICTIONS
        self._info = folder / "predictions_of.json"

    def is_complete(self) -> bool:
        """Whether the predictions of this description are there.

        Raises:
            ConfigError: those of another one are.
        """
        if not self._info.exists() or not self.predictions.exists():
            return False
        found = read_json(self._info)
        if found != self.description:
            keys = [key for key in self.description if found.get(key) != self.description[key]]
            raise ConfigError(
                f"{self.folder} holds predictions of another run (different: {', '.join(keys)}); delete that folder or "
                "choose another paths.experiment_log_dir"
            )
        return True

    def journal(self) -> Journal:
        """That of this process."""
        return Journal(self.folder / f"journal_{distributed.rank()}.jsonl", self.description)

    def finished(self) -> dict[int, list[Record]]:
        """Index of each finished picture -> its records, from the journals of all processes."""
        entries = (
            entry
            for path in sorted(self.folder.glob("journal_*.jsonl"))
            for entry in read_journal(path, self.description)
        )
        return {entry["picture"]: entry["records"] for entry in entries}

    def merge(self, dataset: SacoImageDataset) -> None:
        """All records in the order of the pictures, in one file; the journals go when it is there."""
        finished = self.finished()
        assert len(finished) == len(dataset), f"{len(finished)} of {len(dataset)} pictures are finished"
        write_json(self.predictions, [record for index in range(len(dataset)) for record in finished[index]])
        write_json(self._info, self.description)
        for path in self.folder.glob("journal_*.jsonl"):
            path.unlink()


# --- predicting ---


@dataclass(frozen=True)
class _Remaining:
    """The pictures that no journal holds yet."""

    dataset: SacoImageDataset
    indices: list[int]

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, index: int, epoch: int) -> Sample:
        return self.dataset.sample(self.indices[index], epoch)


def predict(config: RunConfig, dataset: SacoImageDataset, run: BenchmarkFolder) -> None:
    """Predict on this process's share of what is left; every finished picture is on disk at once."""
    finished = run.finished()
    distributed.barrier()  # nobody writes before everybody has read
    remaining = [index for index in range(len(dataset)) if index not in finished]
    mine = remaining[distributed.rank() :: distributed.world_size()]
    if finished:
        _log.info("%d of %d pictures are finished already", len(finished), len(dataset))
    if mine:
        device = choose_device(config.trainer.accelerator)
        model = build_model(config.model, device).eval()
        predictor = PairPredictor(model, choose_precision(config.optim.amp, device), config)
        split = config.data.val
        loader = build_loader(
            _Remaining(dataset, mine),
            batch_size=split.batch_size,
            num_workers=split.num_workers,
            pin_memory=split.pin_memory,
        )
        journal, pictures = run.journal(), iter(mine)
        with tqdm(total=len(mine), desc=config.data.benchmark.name, disable=not distributed.is_main()) as bar:
            for batch in loader:
                for records in predictor(batch):
                    journal.append({"picture": next(pictures), "records": records})
                    bar.update()
        journal.close()
    distributed.barrier()


class PairPredictor:
    """Pictures with their phrases in, records out."""

    def __init__(self, model: Sam3Image, precision: Precision, config: RunConfig) -> None:
        self.model = model
        self.precision = precision
        self.settings: BenchmarkConfig = config.data.benchmark
        self.use_presence = config.trainer.validation.use_presence

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> list[list[Record]]:
        """Records of each picture of the batch, pair by pair."""
        records: list[list[Record]] = [[] for _ in range(len(batch))]
        device_batch = to_device(batch, self.precision.device, non_blocking=True)
        with self.precision.autocast():
            for rows, output in self._outputs(device_batch):
                for place, row in enumerate(rows.tolist()):
                    records[int(batch.image_index[row])] += self._records(batch, output, row=row, place=place)
        return records

    def _outputs(self, batch: Batch) -> Iterator[tuple[Tensor, DetectorOutput]]:
        """The prompts of a batch in groups; pictures and phrases are encoded once."""
        image, text = self.model.encode_image(batch.images), self.model.encode_text(batch.phrases)
        for rows in torch.arange(batch.num_prompts).split(self.settings.phrases_at_once):
            yield (
                rows,
                self.model.ground(
                    image, text, image_index=batch.image_index[rows], phrase_index=batch.phrase_index[rows]
                ),
            )

    def _records(self, batch: Batch, output: DetectorOutput, *, row: int, place: int) -> list[Record]:
        """One pair at a time, so that full-size masks of one pair exist."""
        height, width = batch.origin.original_sizes[row].tolist()
        found = detections(
            replace(output, one_to_one=output.one_to_one.select(slice(place, place + 1))),
            original_sizes=[(height, width)],
            score_threshold=self.settings.score_threshold,
            use_presence=self.use_presence,
        )[0]
        return pair_records(to_device(found, "cpu"), pair_id=int(batch.origin.image_ids[row]))


# --- measuring ---


def measure(config: RunConfig, predictions: Path) -> dict[str, float]:
    """cgF1 of masks and boxes from the written file; also logged and appended to ``val_stats.json``."""
    benchmark = config.data.benchmark
    if not benchmark.gt_files:
        _log.info("predictions: %s; no data.benchmark.gt_files, so nothing is measured", predictions)
        return {}
    metrics: dict[str, float] = {}
    for iou_type in _IOU_TYPES:
        metrics |= evaluate_files(predictions, benchmark.gt_files, iou_type).cgf1.to_dict()
    JsonLines(Path(config.logging.log_dir) / "val_stats.json").append(
        {f"Meters_val/{benchmark.name}/{name}": value for name, value in metrics.items()} | {"Trainer/epoch": 0}
    )
    _log.info("%s: %s\n%s", benchmark.name, predictions, _summary(metrics))
    return metrics


def _summary(metrics: dict[str, float]) -> str:
    """The numbers that tables publish."""

    def line(kind: str, iou_type: str) -> str:
        names: Sequence[tuple[str, str, float]] = (
            ("cgF1", "cgF1", 100),
            ("IL_MCC", "IL_MCC", 1),
            ("pmF1", "positive_micro_F1", 100),
        )
        values = (f"{shown} {factor * metrics[f'cgF1_eval_{iou_type}_{name}']:.2f}" for shown, name, factor in names)
        return f"{kind:<6}" + "  ".join(values)

    return "\n".join([line("masks", "segm"), line("boxes", "bbox")])
