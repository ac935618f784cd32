"""Compares how pictures and prompts enter the networks: loaders, coordinates, chunks of frames."""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sam3.config import TrackerConfig
from sam3.io.frames import FrameSource, open_frames
from sam3.model.interactive_predictor import InteractivePredictor
from sam3.model.tracker.prompt_encoder import PromptEncoder
from sam3.model.tracker.session import TrackerSession
from sam3.model.tracker.tracker import Tracker
from sam3.model.video.perception import frame_pixels
from sam3.model.video.schedule import detection_chunk
from sam3.ops.images import preprocess
from sam3.ops.reference_pixels import reference_pixels
from tests.parity.report import Row, rows_or_miss
from tests.parity.tracker_network import Fixture

FLOAT16, FLOAT32 = 2e-3, 1e-4
GREY_LEVEL = 2 / 255  # our one kernel rounds other pixels up than Pillow's
HALF = (0.5,) * 3
NAMES = ("10.png", "2.png", "1.png")
SMALL = TrackerConfig(d_model=32, decoder_heads=4, memory_dim=8)


def compare(folder: Path) -> list[Row]:
    """A row for every recorded loader."""
    path = folder / "loaders.safetensors"
    return rows_or_miss(path.stem, lambda: list(_loaders(Fixture(path)))) if path.exists() else []


def _loaders(given: Fixture) -> Iterator[Row]:
    found = loaded(given)
    for key in given.expected():
        expected = given.tensors[f"out.{key}"]
        limit = FLOAT16 if expected.dtype == torch.float16 else FLOAT32
        yield Row(f"{given.name} {key}", _difference(found.get(key), expected), limit)
    ours = torch.stack([preprocess(frame, given.meta("image_size"), HALF, HALF) for frame in _frames(given)])
    by_name = [NAMES.index(name) for name in sorted(NAMES, key=lambda name: int(name.split(".")[0]))]
    yield Row(f"{given.name} folder, by our own way", _difference(ours[by_name], found["folder"]), GREY_LEVEL + FLOAT16)


def _frames(given: Fixture) -> list[Image.Image]:
    return [Image.fromarray(frame.numpy()) for frame in given["frames_rgb"]]


def loaded(given: Fixture) -> dict[str, Tensor]:
    """The frames by every loader, under the recorded names."""
    side, frames = given.meta("image_size"), _frames(given)
    with tempfile.TemporaryDirectory() as name:
        for frame, file in zip(frames, NAMES, strict=True):
            frame.save(Path(name) / file)
        as_files = _stack(open_frames(name), side)
        return {
            "folder": as_files,
            "folder_async": as_files,
            "single_image_of_frame2": _stack(open_frames(Path(name) / NAMES[2]), side),
            "pil_list": _stack(open_frames(frames), side),
            "video_cv2_as_reference": _each(frames, side, "cv2"),
            "video_cv2_with_255_division": _each(frames, side, "cv2 divided"),
            "video_torchcodec_transform_of_frame0": reference_pixels(frames[0], side, "torchcodec"),
        }


def _stack(source: FrameSource, side: int) -> Tensor:
    return torch.stack([frame_pixels(source, index, side, as_reference=True) for index in range(len(source))])


def _each(frames: list[Image.Image], side: int, loader: str) -> Tensor:
    return torch.stack([reference_pixels(frame, side, loader) for frame in frames])


def _difference(found: Tensor | None, expected: Tensor) -> float:
    if found is None or found.shape != expected.shape:
        return math.nan
    return float((found.double() - expected.double()).abs().max())


# --- cases of heuristics/*.json ---


def coordinates(case: dict[str, Any]) -> float:
    """Largest error of the coordinates that reach the network; relative to the side of the model's input."""
    kind = case["kind"]
    if kind.startswith("image predictor"):
        found = _clicked(case).reshape(np.shape(case["out"]))
        return _error(found / SMALL.image_size, case["out"], SMALL.image_size)
    size = case["image_size"]
    config = replace(SMALL, image_size=size)
    if kind.startswith("tracker"):
        return _error(_tracked(case["points"], config) / size, case["out"], size)
    if kind.startswith("prompt encoder"):
        encoder = PromptEncoder(replace(config, d_model=4, decoder_heads=1, memory_dim=1, attention_downsample_rate=1))
        scale = 0.1  # small angles, which their sines give back
        encoder.pe_layer.positional_encoding_gaussian_matrix.copy_(scale * torch.eye(2))
        for embedding in encoder.point_embeddings:
            torch.nn.init.zeros_(embedding.weight)
        points = torch.tensor(case["point"]).reshape(1, 1, 2), torch.ones(1, 1, dtype=torch.long)
        with torch.no_grad():
            code = encoder(points=points, grid=(1, 1))[0][0, 0]
        return _error(code[:2].double().asin() / (2 * math.pi * scale), case["pe_input"])
    raise ValueError(f"unknown kind of case {kind!r}")


def _error(found: Tensor, expected: Any, scale: float = 1.0) -> float:
    wanted = torch.tensor(expected, dtype=torch.float64) / scale
    return _difference(found, wanted)


class _Heard(Exception):
    """The predictor has turned the prompt into model pixels."""


class _ListeningTracker(Tracker):
    """Stops where the network would begin."""

    def without_memory(self, features: Any) -> Any:
        return None

    def segment(self, *arguments: Any, points: tuple[Tensor, Tensor], **options: Any) -> Any:
        self.heard = points[0]
        raise _Heard


def _tracked(points: list, config: TrackerConfig) -> Tensor:
    """Model pixels of clicks on an object of a session."""
    tracker = _ListeningTracker(config)
    session = TrackerSession(tracker, lambda frame: None, (1, 1))
    try:
        session.add_points(0, 1, torch.tensor(points), torch.ones(len(points)))
    except _Heard:
        return tracker.heard[0]
    raise AssertionError("the network was never reached")


class _Listener(InteractivePredictor):
    """Stops where the network would begin."""

    def _features(self, state: Any, index: int) -> Any:
        return None

    def predict(self, *arguments: Any, points: tuple[Tensor, Tensor], **options: Any) -> Any:
        self.heard = points[0]
        raise _Heard


def _clicked(case: dict[str, Any]) -> Tensor:
    """Model pixels of the points, or corners of the boxes, of a case."""
    listener = _Listener(replace(SMALL, image_size=1008))
    height, width = case.get("orig_hw", (1, 1))
    state = {"original_height": height, "original_width": width}
    if "boxes" in case:
        given: dict[str, Any] = {"box": case["boxes"]}
    else:
        given = {"point_coords": case["points"], "point_labels": [1] * len(case["points"])}
    try:
        listener.predict_inst(state, normalize_coords=case["normalize"], **given)
    except _Heard:
        return listener.heard
    raise AssertionError("the network was never reached")


def multigpu_chunks(case: dict[str, Any]) -> float:
    """Unequal entries: the chunk of each frame, and the one after it in the direction of tracking.

    The reference computes that next chunk one step ahead; here a chunk is computed when its first frame is reached.
    """
    size, count, is_reverse = case["world_size"], case["num_frames"], case["reverse"]
    known: list[range] = []
    errors = 0.0
    for step in case["steps"]:
        chunk = detection_chunk(step["frame"], count, size)
        following = chunk.start - 1 if is_reverse else chunk.stop
        wanted = [chunk] + ([detection_chunk(following, count, size)] if 0 <= following < count else [])
        built = [[new.start, new.stop] for new in wanted if new not in known]
        known = wanted
        buffered = sorted(frame for own in known for frame in own)
        errors += (built != step["built_chunks"]) + (buffered != step["buffer_frames_after"])
    return errors
