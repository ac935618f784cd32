"""The video model and the files that it shares with the image and the click model."""

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sam3.errors import CheckpointError
from sam3.model.sam3_image_processor import Sam3Processor
from sam3.model.video.sam3_video import Sam3Video
from sam3.model_builder import build_sam3_image_model, build_sam3_video_model

TRACKER_TENSORS, TRACKER_PARAMETERS = 309, 11_743_362
FOURIER_MATRIX = 2 * 128  # a buffer: it is in the file, and nothing learns it
TINY = {"config": "tiny", "device": "cpu"}


def released_size() -> Sam3Video:
    """Without storage."""
    with torch.device("meta"):
        return build_sam3_video_model(load_from_HF=False, device="meta")


def test_the_tracker_has_the_released_numbers() -> None:
    tracker = released_size().tracker
    assert len(tracker.state_dict()) == TRACKER_TENSORS
    assert sum(parameter.numel() for parameter in tracker.parameters()) == TRACKER_PARAMETERS
    stored = sum(tensor.numel() for tensor in tracker.state_dict().values())
    assert stored == TRACKER_PARAMETERS + FOURIER_MATRIX == 11_743_618


def test_the_state_dict_equals_the_manifests(shared: Path) -> None:
    tracker = json.loads((shared / "spec" / "manifest_tracker.json").read_text())
    image = json.loads((shared / "spec" / "manifest_image_model.json").read_text())["tensors"]
    wanted = {name: tuple(entry["shape"]) for name, entry in tracker["keys"].items()}
    wanted |= {f"detector.{name}": tuple(entry["shape"]) for name, entry in image.items()}
    assert len(wanted) == tracker["composition"]["video_model"]["total_keys"]
    model = released_size()
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    tables = {f"detector.{name}": tuple(table.shape) for name, table in model.detector.rotary_tables().items()}
    stored_tables = {name for name in wanted if name.endswith("freqs_cis")}  # the model computes its own
    assert tables.keys() == stored_tables
    assert {name: shape for name, shape in wanted.items() if name not in stored_tables} == found
    assert tracker["counts"]["tracker_elements"] == TRACKER_PARAMETERS + FOURIER_MATRIX


@pytest.fixture(scope="module")
def released_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file laid out as ``sam3.pt``: both prefixes, rotary tables, below ``model``."""
    torch.manual_seed(0)
    model = build_sam3_video_model(load_from_HF=False, **TINY)
    state = dict(model.state_dict())
    state |= {f"detector.{name}": table for name, table in model.detector.rotary_tables().items()}
    path = tmp_path_factory.mktemp("released") / "sam3.pt"
    torch.save({"model": state}, path)
    return path


def matched(caplog: pytest.LogCaptureFixture) -> tuple[int, int]:
    """What the loader says of the last file."""
    found = re.findall(r"matched (\d+) / (\d+)", caplog.text)[-1]
    return int(found[0]), int(found[1])


def test_one_released_file_fills_all_three_models(released_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    image = build_sam3_image_model(released_file, **TINY)
    tables = len(image.rotary_tables())
    assert matched(caplog) == (len(image.state_dict()) + tables,) * 2
    clicks = build_sam3_image_model(released_file, enable_inst_interactivity=True, **TINY)
    assert matched(caplog) == (len(clicks.state_dict()) + tables,) * 2
    video = build_sam3_video_model(released_file, **TINY)
    assert matched(caplog) == (len(video.state_dict()) + tables,) * 2
    assert "UNEXPECTED" not in caplog.text
    for name, tensor in video.tracker.state_dict().items():
        assert torch.equal(tensor, clicks.state_dict()[f"inst_interactive_predictor.model.{name}"]), name
    for name, tensor in image.state_dict().items():
        assert torch.equal(tensor, video.state_dict()[f"detector.{name}"]), name


# --- SAM 3.1 (spec/sam31.md) ---

CLICKS_31 = {
    "sam_prompt_encoder.": "interactive_sam_prompt_encoder.",
    "sam_mask_decoder.": "interactive_sam_mask_decoder.",
    "no_mem_embed": "interactivity_no_mem_embed",
    "mask_downsample.": "interactive_mask_downsample.",
    "obj_ptr_proj.": "interactive_obj_ptr_proj.",
}


def file_31(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A SAM 3.1 file made of a SAM 3 state: other names, no coarsest level, a tracker of its own."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith("detector.") and "convs.3." not in name:
            found[name.replace(".sam2_convs.", ".interactive_convs.")] = tensor
        own = name.removeprefix("tracker.")
        for prefix, other in CLICKS_31.items():
            if name.startswith("tracker.") and own.startswith(prefix):
                found["tracker.model." + other + own.removeprefix(prefix)] = tensor
    found["detector.backbone.vision_backbone.propagation_convs.0.conv_1x1.weight"] = torch.zeros(2)
    for name in ("sam_mask_decoder.iou_token.weight", "sam_prompt_encoder.no_mask_embed.weight", "no_mem_embed"):
        found[f"tracker.model.{name}"] = torch.zeros(3)  # of the tracker that shares buckets
    return found


@pytest.fixture(scope="module")
def file_of_31(released_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = torch.load(released_file, weights_only=True)["model"]
    state = {name: tensor for name, tensor in state.items() if not name.endswith("freqs_cis")}
    path = tmp_path_factory.mktemp("newer") / "sam3.1_multiplex.pt"
    torch.save(file_31(state), path)
    return path


def test_a_file_of_31_serves_images_and_clicks(
    released_file: Path, file_of_31: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    options = {**TINY, "enable_inst_interactivity": True}
    older, newer = build_sam3_image_model(released_file, **options), build_sam3_image_model(file_of_31, **options)
    count, total = matched(caplog)
    rest = len([name for name in newer.state_dict() if _is_not_in_31(name)])
    assert (count, total) == (len(newer.state_dict()) - rest, len(newer.state_dict()))
    assert f"{rest} not in the file, left at their initial values" in caplog.text
    states = [Sam3Processor(model).set_image(picture) for model in (older, newer)]
    click = {"point_coords": np.array([[30, 40]]), "point_labels": np.array([1])}
    (masks, qualities, _), (masks_31, raw, _) = (
        model.predict_inst(state, **click) for model, state in zip((older, newer), states, strict=True)
    )
    assert np.array_equal(masks, masks_31)
    assert np.allclose(qualities, 1 / (1 + np.exp(-raw)), atol=1e-6)  # the head of 3.1 has no sigmoid
    found = [
        Sam3Processor(model).set_text_prompt("cat", state) for model, state in zip((older, newer), states, strict=True)
    ]
    assert torch.equal(found[0]["scores"], found[1]["scores"])
    plain = build_sam3_image_model(file_of_31, **TINY)
    assert plain.inst_interactive_predictor is None


def _is_not_in_31(name: str) -> bool:
    clicks = name.removeprefix("inst_interactive_predictor.model.")
    return "convs.3." in name or (clicks != name and not clicks.startswith(tuple(CLICKS_31)))


def test_a_file_of_31_is_refused_by_the_video_model(file_of_31: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        build_sam3_video_model(file_of_31, **TINY)
    message = str(refused.value)
    assert "are of SAM 3.1, whose tracker is another network" in message
    assert "build_sam3_image_model" in message
    assert message.count(". ") == 0  # one sentence
