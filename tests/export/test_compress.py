"""Compressed weights load, say what the original says, and nothing is lost or overwritten on the way."""

from dataclasses import replace

import pytest
import torch

from sam3.config import PRESETS, ModelConfig
from sam3.errors import CheckpointError
from sam3.export.compress import compress
from sam3.export.sample_check import SampleCheck
from sam3.io.checkpoint import ModelCard, read_checkpoint, save_weights
from sam3.model_builder import build_sam3_image_model
from tests.small_checkpoint import RESOLUTION, small_config, small_model


@pytest.mark.parametrize(
    ("dtype", "suffix", "kept"),
    [("fp16", ".pt", 1 / 6), ("bf16", ".safetensors", 1 / 6), ("fp32", ".pt", 1 / 3), ("fp16", ".safetensors", 1 / 6)],
)
def test_the_result_is_small_and_says_the_same(trained, tmp_path, dtype, suffix, kept):
    target = tmp_path / f"out{suffix}"
    report = compress(trained, target, dtype=dtype, check=SampleCheck(bound=0.05))
    assert report.bytes_after == target.stat().st_size
    assert abs(report.bytes_after / report.bytes_before - kept) < 0.02
    assert report.matched == report.total == len(small_model().state_dict())
    assert (report.differences.largest == 0) == (dtype == "fp32")

    written, original = read_checkpoint(target), read_checkpoint(trained)
    assert {tensor.dtype for tensor in written.state_dict.values()} == {
        {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    }
    assert ModelConfig.from_dict(written.card.model_config) == small_config()
    assert replace(written.card, model_config=None) == replace(original.card, model_config=None)
    assert written.card.prompts == ["red circle", "blue square"]
    build_sam3_image_model(target, device="cpu")  # nothing but the file is needed


def test_the_source_is_not_changed(trained, tmp_path):
    before = trained.read_bytes()
    compress(trained, tmp_path / "out.pt")
    assert trained.read_bytes() == before


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (1e5, "fp16", r"'backbone.*weight' holds 1e\+05, beyond the range of fp16 .65504.; use bf16"),
        (float("nan"), "bf16", "2 of the .* values of tensor 'backbone.*weight' are not finite"),
        (float("inf"), "fp32", "not finite"),
    ],
)
def test_values_that_cannot_be_kept_are_named(tmp_path, value, dtype, message):
    model = small_model()
    name = "backbone.vision_backbone.trunk.patch_embed.proj.weight"
    model.state_dict()[name].view(-1)[3:5] = value
    save_weights(tmp_path / "bad.pt", model.state_dict(), ModelCard(model_config=model.config.to_dict()))
    with pytest.raises(CheckpointError, match=message):
        compress(tmp_path / "bad.pt", tmp_path / "out.pt", dtype=dtype)
    assert not (tmp_path / "out.pt").exists()


def test_a_large_value_fits_into_bf16(tmp_path):
    model = small_model()
    model.state_dict()["backbone.vision_backbone.trunk.patch_embed.proj.weight"].view(-1)[3] = 1e5
    save_weights(tmp_path / "large.pt", model.state_dict(), ModelCard(model_config=model.config.to_dict()))
    compress(tmp_path / "large.pt", tmp_path / "out.pt", dtype="bf16")
    assert (tmp_path / "out.pt").exists()


def test_a_file_with_the_tracker_keeps_it(tmp_path):
    model = small_model()
    tensors = {f"detector.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors["tracker.maskmem_tpos_enc"] = torch.arange(7.0)
    save_weights(tmp_path / "full.pt", tensors, ModelCard(model_config=model.config.to_dict()))
    report = compress(tmp_path / "full.pt", tmp_path / "out.pt")
    assert report.left_out == 0
    written = read_checkpoint(tmp_path / "out.pt")
    assert written.layout == "sam3"
    assert written.tracker_state["maskmem_tpos_enc"].tolist() == list(range(7))


def test_a_file_without_a_card_gets_one_that_makes_it_usable(tmp_path):
    torch.save({"model": small_model().state_dict()}, tmp_path / "bare.pt")
    PRESETS["small"] = small_config
    try:
        compress(tmp_path / "bare.pt", tmp_path / "out.pt", config="small")
    finally:
        del PRESETS["small"]
    assert read_checkpoint(tmp_path / "out.pt").card.resolution == RESOLUTION
    build_sam3_image_model(tmp_path / "out.pt", device="cpu")


def test_the_checkpoint_itself_is_never_the_target(trained):
    with pytest.raises(CheckpointError, match="is the checkpoint itself"):
        compress(trained, trained, overwrite=True)
