"""Masklets on SA-Co/VEval: all phrases of a video in one pass over its frames, then every video metric.

Source: spec/evaluation.md 1.4, 3.8 and 8.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam3.data.masklets import Record
from sam3.data.saco_video_dataset import SacoVideoDataset
from sam3.errors import ConfigError
from sam3.eval.masklet_file import masklet_record
from sam3.eval.veval import evaluate_files
from sam3.eval.veval_command import HEADLINES
from sam3.model.sam3_video_predictor import Sam3VideoPredictor, TrackedVideoFrame
from sam3.model.video.settings import VideoSettings, with_thresholds, without_heuristics
from sam3.model_builder import build_sam3_video_predictor
from sam3.ops import rle
from sam3.train.assembly import choose_device, choose_precision
from sam3.train.benchmark_folder import shared_identity
from sam3.train.model_setup import model_shape
from sam3.train.parts import build_part
from sam3.train.schema import RunConfig, VideoBenchmarkConfig
from sam3.train.trainer import Precision


class VideoBenchmark:
    """A :class:`~sam3.train.benchmark.Benchmark` whose items are videos."""

    unit = "videos"

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.settings = _settings(config.data.benchmark.video)
        self.dataset: SacoVideoDataset = build_part(config.data.val.dataset)
        folder = Path(config.launcher.experiment_log_dir) / "preds"
        self.predictions = folder / f"{config.data.benchmark.name}_preds.json"
        self.results = folder / f"{config.data.benchmark.name}_eval_res.json"

    def __len__(self) -> int:
        return len(self.dataset)

    def identity(self) -> dict[str, Any]:
        """Everything that decides what is predicted."""
        video = self.config.data.benchmark.video
        return shared_identity(self.config, self.dataset) | {
            "temporal_disambiguation": video.temporal_disambiguation,
            "settings": dict(video.settings),
        }

    def shares(self, items: Sequence[int], count: int) -> list[list[int]]:
        """The longest videos first, each to the process that has least to do."""
        parts: list[list[int]] = [[] for _ in range(count)]
        loads = [0] * count
        for item in sorted(items, key=lambda item: -self.dataset.questions[item].cost):
            rank = loads.index(min(loads))
            parts[rank].append(item)
            loads[rank] += self.dataset.questions[item].cost
        return parts

    def predict(self, items: Sequence[int]) -> Iterator[list[Record]]:
        """The masklets of each video."""
        device = choose_device(self.config.trainer.accelerator)
        predictor = self._predictor(device)
        precision = choose_precision(self.config.optim.amp, device)
        for item in items:
            questions = self.dataset.questions[item]
            frames = predictor.track(self.dataset.frames(item), prompts=list(questions.categories))
            tracks = gather(_in_precision(frames, precision))
            yield [
                masklet_record(
                    video_id=questions.video.id,
                    category_id=category,
                    score=track.score,
                    masks=[track.masks.get(frame) for frame in range(len(questions.video))],
                )
                for phrase, categories in questions.categories.items()
                for category in categories
                for track in tracks
                if track.label == phrase
            ]

    def measure(self) -> dict[str, float]:
        """All video metrics; the rows of each pair go into ``<name>_eval_res.json`` beside the predictions."""
        (truth,) = self.config.data.benchmark.gt_files
        return evaluate_files(truth, self.predictions, self.results).to_dict()["dataset_results"]

    def summary(self, metrics: dict[str, float]) -> str:
        """The numbers that tables publish."""
        return "  ".join(f"{title} {100 * metrics[key]:.1f}" for title, key in HEADLINES.items())

    def describe(self) -> list[str]:
        """What is going to be asked."""
        config, video = self.config, self.config.data.benchmark.video
        heuristics = "with" if video.temporal_disambiguation else "without"
        changed = "".join(f", {name} {value}" for name, value in video.settings.items())
        return [
            f"benchmark       {config.data.benchmark.name}: {len(self)} videos, {self.dataset.num_frames} frames, "
            f"{self.dataset.num_queries} pairs",
            f"weights         {config.model.checkpoint_path or 'of the preset ' + config.model.preset}",
            f"input           {config.model.resolution} x {config.model.resolution} pixels on "
            f"{choose_device(config.trainer.accelerator)}, {heuristics} heuristics over time{changed}",
            f"predictions     {self.predictions}",
        ]

    def _predictor(self, device: Any) -> Sam3VideoPredictor:
        model, video = self.config.model, self.config.data.benchmark.video
        predictor = build_sam3_video_predictor(
            model.checkpoint_path,
            apply_temporal_disambiguation=video.temporal_disambiguation,
            load_from_HF=model.load_from_HF,
            device=device,
            bpe_path=model.bpe_path,
            resolution=model.resolution,
            config=model_shape(model),
        )
        predictor.settings = self.settings
        return predictor


@dataclass
class Track:
    """One object that was followed."""

    label: str
    score: float
    masks: dict[int, rle.Rle] = field(default_factory=dict)  # frame -> mask


def gather(frames: Iterator[TrackedVideoFrame]) -> list[Track]:
    """The objects of all frames, by id; masks are kept compressed."""
    tracks: dict[int, Track] = {}
    for frame in frames:
        for obj_id, label, score, mask in zip(frame.ids, frame.labels, frame.scores, frame.masks, strict=True):
            track = tracks.setdefault(obj_id, Track(label, float(score)))
            track.masks[frame.index] = rle.encode(mask)
    return [tracks[obj_id] for obj_id in sorted(tracks)]


def _in_precision(frames: Iterator[TrackedVideoFrame], precision: Precision) -> Iterator[TrackedVideoFrame]:
    """The steps of ``frames`` under mixed precision, the caller's code between them outside of it."""
    while True:
        with precision.autocast():
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _settings(video: VideoBenchmarkConfig) -> VideoSettings:
    """Every threshold of the run.

    Raises:
        ConfigError: one that the video model does not have, or of another kind.
    """
    base = VideoSettings() if video.temporal_disambiguation else without_heuristics()
    try:
        return with_thresholds(base, video.settings)
    except ConfigError as error:
        raise ConfigError(f"data.benchmark.video.settings: {error}") from error
