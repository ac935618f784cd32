"""Compares the interactive predictor with recorded numbers: ``image_predictor.safetensors``."""

from pathlib import Path

import torch
from torch import Tensor

from sam3.model.interactive_predictor import InteractivePredictor
from tests.parity.report import Row, rows_or_miss
from tests.parity.tracker_network import Fixture, build_tracker
from tests.parity.tracker_sessions import stub_backbone


@torch.no_grad()
def compare(folder: Path) -> list[Row]:
    """A row for each result of each recorded case."""
    path = folder / "image_predictor.safetensors"
    return rows_or_miss(path.stem, lambda: _rows(folder, path)) if path.exists() else []


def _rows(folder: Path, path: Path) -> list[Row]:
    given = Fixture(path)
    return list(given.rows(predictions(folder, given)))


@torch.no_grad()
def predictions(folder: Path, given: Fixture) -> dict[str, Tensor]:
    """What the predictor says to each case, under the recorded names."""
    predictor = InteractivePredictor(build_tracker(folder).config)
    predictor.model = build_tracker(folder)
    pyramid = stub_backbone(folder)(given["pixels"])
    height, width = given.meta("orig_hw")
    second = {"backbone_fpn": pyramid}
    state = {"original_height": height, "original_width": width, "backbone_out": {"sam2_backbone_out": second}}
    found = {"image_embed": predictor.model.without_memory(predictor.model.features(pyramid))}
    for case, settings in given.meta("cases").items():
        own = {key: given.get(f"{case}.{key}") for key in ("point_coords", "point_labels", "box", "mask_input")}
        own = {key: value.numpy() for key, value in own.items() if value is not None}
        own |= {
            key: settings[name]
            for key, name in (("point_coords", "points"), ("point_labels", "labels"))
            if name in settings
        }
        options = {key: settings[key] for key in ("multimask_output", "return_logits")}
        results = predictor.predict_inst(state, **own, **options)
        for name, value in zip(("masks", "iou", "low_res"), results, strict=True):
            found[f"{case}.{name}"] = torch.from_numpy(value)
    return found
