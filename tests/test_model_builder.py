import hashlib
import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam3.config import ModelConfig, tiny
from sam3.errors import CheckpointError, ConfigError
from sam3.model.detector.detector import Sam3Image
from sam3.model.video.settings import VideoSettings, without_heuristics
from sam3.model_builder import build_sam3_image_model, build_sam3_video_predictor

# Of the sorted lines "key [shape]" of the released detector without its rotary tables.
RELEASED_DIGEST = "8fa70c50ba06248bb9d320b8337a654148e23aa96677c5dc8fe6ed6057905d72"
RELEASED_PARAMETERS = 840_509_750
SECOND_NECK_PARAMETERS = 7_802_112


def released(**options: object) -> Sam3Image:
    """The released network without storage."""
    with torch.device("meta"):
        return build_sam3_image_model(load_from_HF=False, device="meta", **options)


CLICKS = "inst_interactive_predictor.model."


def digest(model: Sam3Image) -> str:
    lines = sorted(f"{name} {list(value.shape)}" for name, value in model.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_released_keys_and_shapes() -> None:
    start = time.monotonic()
    model = released()
    assert time.monotonic() - start < 20
    assert len(model.state_dict()) == len(list(model.parameters())) == 1102
    assert sum(p.numel() for p in model.parameters()) == RELEASED_PARAMETERS
    assert digest(model) == RELEASED_DIGEST


def test_second_neck_and_click_model() -> None:
    plain, with_neck = released().state_dict(), released(enable_inst_interactivity=True).state_dict()
    more = {name: value for name, value in with_neck.items() if name not in plain}
    clicks = {name for name in more if name.startswith(CLICKS)}
    neck = {name for name in more if name.startswith("backbone.vision_backbone.sam2_convs.")}
    assert (len(more), len(clicks), len(neck)) == (331, 309, 22)
    assert sum(more[name].numel() for name in neck) == SECOND_NECK_PARAMETERS
    assert sum(more[name].numel() for name in clicks) == 11_743_362 + 256  # the Fourier matrix is a buffer


def test_equals_the_manifest(shared: Path) -> None:
    manifest = json.loads((shared / "spec" / "manifest_image_model.json").read_text())["tensors"]
    wanted = {name: tuple(entry["shape"]) for name, entry in manifest.items() if not name.endswith("freqs_cis")}
    found = {name: tuple(value.shape) for name, value in released(enable_inst_interactivity=True).state_dict().items()}
    assert {name: shape for name, shape in found.items() if not name.startswith(CLICKS)} == wanted


def test_rotary_tables_are_those_of_the_manifest(shared: Path) -> None:
    manifest = json.loads((shared / "spec" / "manifest_image_model.json").read_text())["tensors"]
    wanted = {name: entry["shape"] for name, entry in manifest.items() if name.endswith("freqs_cis")}
    assert {name: list(table.shape) for name, table in released().rotary_tables().items()} == wanted


def test_no_rotary_table_appears_after_a_forward_pass() -> None:
    model = build_sam3_image_model(load_from_HF=False, config="tiny", device="cpu")
    before = set(model.state_dict())
    with torch.no_grad():
        model.encode_image(torch.zeros(1, 3, 112, 112))
    assert set(model.state_dict()) == before


def test_modes_and_options() -> None:
    model = build_sam3_image_model(load_from_HF=False, config="tiny", device="cpu")
    assert not model.training
    assert model.device == torch.device("cpu")
    assert model.card is None
    assert build_sam3_image_model(load_from_HF=False, config=tiny(), device="cpu", eval_mode=False).training
    assert build_sam3_image_model(config="tiny", device="cpu", enable_segmentation=False).segmentation_head is None
    checkpointed = build_sam3_image_model(config="tiny", device="cpu", activation_checkpointing=True)
    assert checkpointed.transformer.decoder.layers.activation_checkpointing


def test_the_seed_decides_random_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(build_sam3_image_model(config="tiny", device="cpu").state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_resolution_is_rounded_up_with_a_notice(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = build_sam3_image_model(config="tiny", device="cpu", resolution=100)
    assert model.config.vision.image_size == 112
    assert "100" in caplog.text
    caplog.clear()
    assert released(resolution=504).config.vision.image_size == 504
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": "huge"}, "huge"),
        ({"device": "cpus"}, "device 'cpus' cannot be used here .*; use auto, cpu"),
        ({"device": "cuda:77"}, "device 'cuda:77' cannot be used here"),
        ({"resolution": 0}, "positive"),
        ({"resolution": "1008"}, "a whole number of pixels, got '1008'"),
        ({"resolution": 112.0}, "whole number"),
        ({"config": {"vision": {}}}, "unknown model preset"),
        ({"bpe_path": "assets/absent.gz"}, "vocabulary file 'assets/absent.gz' not found"),
    ],
)
def test_wrong_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_sam3_image_model(**({"config": "tiny", "device": "cpu"} | options))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises((CheckpointError, FileNotFoundError), match=r"absent\.pt"):
        build_sam3_image_model(tmp_path / "absent.pt", config="tiny", device="cpu")


def test_weights_and_shape_come_back_from_a_file(tmp_path: Path) -> None:
    from sam3.io.checkpoint import ModelCard, save_weights

    shape: ModelConfig = replace(tiny(), detector=replace(tiny().detector, num_queries=5))
    model = build_sam3_image_model(config=shape, device="cpu")
    card = ModelCard(
        class_names=["red circle"], prompts=["red circle"], resolution=112, model_config=model.config.to_dict()
    )
    save_weights(tmp_path / "weights.safetensors", model.state_dict(), card)
    loaded = build_sam3_image_model(tmp_path / "weights.safetensors", device="cpu")
    assert loaded.config == shape  # carried by the file, so the default preset is not meant
    assert loaded.card.class_names == ["red circle"]
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(CheckpointError):
        build_sam3_image_model(tmp_path / "weights.safetensors", config="tiny", device="cpu")


def test_tensors_that_a_layout_never_holds_get_initial_values(tmp_path: Path) -> None:
    from sam3.io.checkpoint import save_weights

    model = build_sam3_image_model(config="tiny", device="cpu")
    save_weights(tmp_path / "model.safetensors", model.state_dict(), None, layout="transformers")
    loaded = build_sam3_image_model(tmp_path / "model.safetensors", config="tiny", device="cpu").state_dict()
    points = [name for name in loaded if ".points_" in name]  # transformers has no point prompts
    assert len(points) == 6
    for name in points:
        assert loaded[name].abs().max() < 1
        assert loaded[name].std() > 0
    class_position = "backbone.vision_backbone.trunk.pos_embed"
    same = [torch.equal(value, loaded[name]) for name, value in model.state_dict().items() if name not in points]
    assert sum(not equal for equal in same) <= 1  # the class token's position, which nothing reads
    assert torch.equal(model.state_dict()[class_position][:, 1:], loaded[class_position][:, 1:])


VIDEO = {"config": "tiny", "load_from_HF": False, "device": "cpu"}


def test_the_keywords_of_the_video_predictor_take_effect() -> None:
    predictor = build_sam3_video_predictor(**VIDEO, compatibility="reference", session_expiry_s=5, frames_per_chunk=2)
    assert predictor.settings == VideoSettings(as_reference=True, frames_per_chunk=2)
    assert predictor.sessions.expiry_s == 5
    plain = build_sam3_video_predictor(**VIDEO, apply_temporal_disambiguation=False, video_loader_type="torchcodec")
    assert plain.settings == without_heuristics()
    assert not plain.model.tracker.config.use_memory_selection


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"geo_encoder_use_img_cross_attn": False}, "geo_encoder_use_img_cross_attn=False changes nothing"),
        ({"strict_state_dict_loading": False}, "weights that do not fit are refused"),
        ({"async_loading_frames": True}, "frames are read when they are needed"),
    ],
)
def test_keywords_without_effect_say_so(options: dict, message: str, caplog: pytest.LogCaptureFixture) -> None:
    build_sam3_video_predictor(**VIDEO, **options)
    assert message in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"has_presence_token": False}, "need the presence token"),
        ({"compatibility": "exact"}, "compatibility is 'exact'; expected fixed or reference"),
        ({"video_loader_type": "decord"}, "video_loader_type is 'decord'; expected one of cv2, torchcodec"),
    ],
)
def test_keywords_that_cannot_be_met_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_sam3_video_predictor(**VIDEO, **options)
