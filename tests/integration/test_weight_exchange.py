"""A real small network through every file layout: the outputs afterwards are the outputs before."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam3.config import NeckConfig
from sam3.io.checkpoint import ModelCard, load_into, read_checkpoint, save_weights
from sam3.model.detector.detector import Sam3Image
from sam3.model_builder import build_sam3_image_model
from tests.small_checkpoint import RESOLUTION, small_config

IMAGES = torch.rand(1, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(0)) * 2 - 1
TOKENS = torch.tensor([[49406, 736, 1615, 49407] + [0] * 12])


def small_model(*, second_neck: bool, seed: int) -> Sam3Image:
    torch.manual_seed(seed)
    config = replace(small_config(), neck=NeckConfig(second_neck=second_neck))
    return build_sam3_image_model(load_from_HF=False, config=config, device="cpu")


@torch.no_grad()
def outputs(model: Sam3Image) -> list[Tensor]:
    index = torch.zeros(1, dtype=torch.long)
    output = model.ground(
        model.encode_image(IMAGES), model.encode_tokens(TOKENS), image_index=index, phrase_index=index
    )
    return [output.scores, output.one_to_one.boxes, output.one_to_one.masks, output.semantic_logits]


@pytest.fixture(scope="module")
def source() -> Sam3Image:
    return small_model(second_neck=True, seed=0)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("layout", ["sam3", "released", "transformers", "transformers video"])
def test_every_layout_gives_the_same_outputs(
    layout: str, dtype: str, suffix: str, source: Sam3Image, tmp_path: Path
) -> None:
    released = {"prefix": "detector.", "rotary_tables": source.rotary_tables()} if layout == "released" else {}
    path = tmp_path / "données" / f"poids{suffix}"
    save_weights(
        path,
        source.state_dict(),
        ModelCard(prompts=["ein roter Kreis"]),
        dtype=dtype,
        layout="sam3" if layout == "released" else layout,
        **released,
    )
    target = small_model(second_neck=layout != "transformers", seed=1)
    checkpoint = read_checkpoint(path)
    report = load_into(target, checkpoint)
    points = 6 if "transformers" in layout else 0  # the peer has no point prompts
    tables = 2 if layout == "released" else 0
    assert (report.matched, report.total) == (report.total - points, len(target.state_dict()) + tables)
    assert report.unexpected == report.unused == []
    assert checkpoint.card.prompts == ["ein roter Kreis"]
    for before, after in zip(outputs(source), outputs(target), strict=True):
        if dtype == "fp32":
            assert torch.equal(before, after)
        else:
            assert torch.allclose(before, after, rtol=0, atol=0.03 * before.abs().max().item())


def test_building_from_a_file_touches_no_network(
    source: Sam3Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_args: object, **_named: object) -> None:
        raise AssertionError("network access was attempted")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, forbidden)
    path = tmp_path / "sam3.pt"
    save_weights(path, source.state_dict(), ModelCard(model_config=source.config.to_dict()), prefix="detector.")
    built = build_sam3_image_model(path, device="cpu")
    assert all(torch.equal(before, after) for before, after in zip(outputs(source), outputs(built), strict=True))
