"""Predictions on an SA-Co image benchmark: pictures are encoded once for all their phrases, and cgF1 is measured.

Source: spec/evaluation.md 6.1 and 8.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam3.data.loader import build_loader
from sam3.data.saco_dataset import SacoImageDataset
from sam3.data.samples import Sample
from sam3.eval.cgf1_files import evaluate_files
from sam3.eval.prediction_file import Record, pair_records
from sam3.model.detector.detector import Sam3Image
from sam3.model.postprocess import detections
from sam3.structures import Batch, DetectorOutput, to_device
from sam3.train.assembly import choose_device, choose_precision
from sam3.train.benchmark_folder import shared_identity
from sam3.train.model_setup import build_model
from sam3.train.parts import build_part
from sam3.train.schema import BenchmarkConfig, RunConfig
from sam3.train.trainer import Precision

PREDICTIONS = "coco_predictions_segm.json"
_IOU_TYPES = ("segm", "bbox")


class ImageBenchmark:
    """A :class:`~sam3.train.benchmark.Benchmark` whose items are pictures."""

    unit = "pictures"

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.dataset: SacoImageDataset = build_part(config.data.val.dataset)
        folder = Path(config.launcher.experiment_log_dir) / "dumps" / config.data.benchmark.name
        self.predictions = folder / PREDICTIONS

    def __len__(self) -> int:
        return len(self.dataset)

    def identity(self) -> dict[str, Any]:
        """Everything that decides what is predicted."""
        return shared_identity(self.config, self.dataset) | {
            "score_threshold": self.config.data.benchmark.score_threshold,
            "use_presence": self.config.trainer.validation.use_presence,
        }

    def shares(self, items: Sequence[int], count: int) -> list[list[int]]:
        """Every ``count``-th picture each."""
        return [list(items[rank::count]) for rank in range(count)]

    def predict(self, items: Sequence[int]) -> Iterator[list[Record]]:
        """The records of each picture, pair by pair."""
        device = choose_device(self.config.trainer.accelerator)
        model = build_model(self.config.model, device).eval()
        predictor = PairPredictor(model, choose_precision(self.config.optim.amp, device), self.config)
        split = self.config.data.val
        loader = build_loader(
            _Some(self.dataset, list(items)),
            batch_size=split.batch_size,
            num_workers=split.num_workers,
            pin_memory=split.pin_memory,
        )
        for batch in loader:
            yield from predictor(batch)

    def measure(self) -> dict[str, float]:
        """cgF1 of masks and boxes."""
        metrics: dict[str, float] = {}
        for iou_type in _IOU_TYPES:
            metrics |= evaluate_files(self.predictions, self.config.data.benchmark.gt_files, iou_type).cgf1.to_dict()
        return metrics

    def summary(self, metrics: dict[str, float]) -> str:
        """The numbers that tables publish."""

        def line(kind: str, iou_type: str) -> str:
            names = (("cgF1", "cgF1", 100), ("IL_MCC", "IL_MCC", 1), ("pmF1", "positive_micro_F1", 100))
            values = (f"{shown} {factor * metrics[f'cgF1_eval_{iou_type}_{key}']:.2f}" for shown, key, factor in names)
            return f"{kind:<6}" + "  ".join(values)

        return "\n".join([line("masks", "segm"), line("boxes", "bbox")])

    def describe(self) -> list[str]:
        """What is going to be asked."""
        config, benchmark = self.config, self.config.data.benchmark
        device = choose_device(config.trainer.accelerator)
        return [
            f"benchmark       {benchmark.name}: {len(self)} pictures, {self.dataset.num_queries} pairs",
            f"annotators      {len(benchmark.gt_files)}",
            f"weights         {config.model.checkpoint_path or 'of the preset ' + config.model.preset}",
            f"input           {config.model.resolution} x {config.model.resolution} pixels on {device}, batches of "
            f"{config.data.val.batch_size} pictures, {benchmark.phrases_at_once} phrases at once",
            f"predictions     {self.predictions}, scores above {benchmark.score_threshold}",
        ]


@dataclass(frozen=True)
class _Some:
    """Some of the pictures."""

    dataset: SacoImageDataset
    indices: list[int]

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, index: int, epoch: int) -> Sample:
        return self.dataset.sample(self.indices[index], epoch)


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
