"""The table of names against the published key map, and its inverse."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam3.errors import CheckpointError
from sam3.io.transformers_names import from_transformers, is_transformers_name, to_transformers
from tests.io.weights import BACKBONE, SECOND_NECK, SHAPES, random_state

POINTS = "geometry_encoder.points_"


@pytest.fixture(scope="module")
def released_shapes(shared: Path) -> dict[str, Tensor]:
    """Every tensor of the released image model, without memory."""
    entries = json.loads((shared / "spec" / "manifest_image_model.json").read_text())["tensors"]
    shapes = {name: entry["shape"] for name, entry in entries.items() if not name.endswith("freqs_cis")}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def key_map(shared: Path) -> dict:
    return json.loads((shared / "spec" / "hf_key_map.json").read_text())


def renamed_by(rules: list[dict], name: str) -> list[str]:
    rule = next(rule for rule in rules if re.match(rule["match"], name))
    targets = rule.get("to", [])
    return [re.sub(rule["match"], target, name) for target in ([targets] if isinstance(targets, str) else targets)]


def test_table_agrees_with_the_published_map(released_shapes: dict[str, Tensor], key_map: dict) -> None:
    expected = {theirs for ours in released_shapes for theirs in renamed_by(key_map["orig_to_hf"], ours)}
    theirs = to_transformers(released_shapes)
    assert theirs.keys() == expected
    assert len(theirs) == 1468
    back = from_transformers(theirs)
    assert set(back) == {ours for name in theirs for ours in renamed_by(key_map["hf_to_orig"], name)}
    assert len(back) == 1096
    assert {name: tensor.shape for name, tensor in back.items()} == {name: released_shapes[name].shape for name in back}
    assert all(map(is_transformers_name, theirs))


def test_video_file_keeps_the_second_neck(released_shapes: dict[str, Tensor], key_map: dict) -> None:
    theirs = to_transformers(released_shapes, video_file=True)
    neck = {name for name in theirs if name.startswith("tracker_neck.")}
    ours = [name for name in released_shapes if ".sam2_convs." in name]
    assert neck == {renamed_by(key_map["tracker_neck"]["orig_to_hf"], name)[0] for name in ours}
    assert len(neck) == 22
    assert all(name.startswith("detector_model.") for name in theirs.keys() - neck)
    assert released_shapes.keys() - from_transformers(theirs).keys() == {n for n in released_shapes if POINTS in n}


@pytest.mark.parametrize("video_file", [False, True])
def test_there_and_back_keeps_every_value(video_file: bool) -> None:
    state = random_state(SHAPES | SECOND_NECK)
    before = {name: tensor.clone() for name, tensor in state.items()}
    back = from_transformers(to_transformers(state, video_file=video_file))
    kept = {n for n in state if POINTS not in n and (video_file or ".sam2_convs." not in n)}
    assert back.keys() == kept
    for name in kept - {f"{BACKBONE}trunk.pos_embed"}:
        assert torch.equal(back[name], state[name]), name
    position = back[f"{BACKBONE}trunk.pos_embed"]
    assert torch.equal(position[:, 1:], state[f"{BACKBONE}trunk.pos_embed"][:, 1:])
    assert not position[:, 0].any()
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_projections_are_split_in_the_order_q_k_v() -> None:
    theirs = to_transformers({f"{BACKBONE}trunk.blocks.3.attn.qkv.bias": torch.arange(6.0)})
    layer = "vision_encoder.backbone.layers.3.attention"
    assert {name: tensor.tolist() for name, tensor in theirs.items()} == {
        f"{layer}.q_proj.bias": [0, 1],
        f"{layer}.k_proj.bias": [2, 3],
        f"{layer}.v_proj.bias": [4, 5],
    }


def test_parts_share_no_memory() -> None:
    state = {f"{BACKBONE}trunk.blocks.3.attn.qkv.bias": torch.arange(6.0)}
    for tensor in to_transformers(state).values():
        tensor.zero_()
    assert state[f"{BACKBONE}trunk.blocks.3.attn.qkv.bias"].tolist() == [0, 1, 2, 3, 4, 5]


def test_names_of_neither_side_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"'fc\.weight' has no counterpart"):
        to_transformers({"fc.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"'fc\.weight' is not one of"):
        from_transformers({"fc.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"blocks\.0\.attn\.qkv\.bias' needs .* k, v missing"):
        from_transformers({"vision_encoder.backbone.layers.0.attention.q_proj.bias": torch.zeros(2)})
