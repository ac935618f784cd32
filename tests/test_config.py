"""Model configurations: presets, round trip, errors that name the field."""

import json

import pytest

from sam3.config import ModelConfig, VisionConfig, resolve_config, sam3, tiny
from sam3.errors import ConfigError


@pytest.mark.parametrize("preset", [sam3, tiny])
def test_round_trip_through_json(preset):
    config = preset()
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_released_sizes():
    vision = sam3().vision
    assert (vision.grid_size, vision.mlp_dim, vision.global_blocks) == (72, 4736, (7, 15, 23, 31))


@pytest.mark.parametrize(("asked", "side"), [(1008, 1008), (800, 812), (1, 14), (14, 14), (15, 28)])
def test_resolution_is_rounded_up_to_the_patch(asked, side):
    assert sam3().with_resolution(asked).vision.image_size == side


def test_resolution_must_be_positive():
    with pytest.raises(ConfigError, match="positive, got 0"):
        sam3().with_resolution(0)


def test_unknown_key_is_named_with_its_path():
    with pytest.raises(ConfigError, match=r"unknown key model\.vision\.embed_dims; known: .*embed_dim"):
        ModelConfig.from_dict({"vision": {"embed_dims": 3}})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_heads": 7}, r"vision\.num_heads \(7\) must divide vision\.embed_dim \(1024\)"),
        ({"image_size": 1000}, r"vision\.patch_size \(14\) must divide vision\.image_size \(1000\)"),
        ({"global_blocks": (32,)}, r"global_blocks \(32,\) must name blocks in 0\.\.31"),
        ({"num_heads": 512}, "divisible by 4, got 2"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        VisionConfig(**fields)


def test_resolve_config_lists_presets():
    assert resolve_config("tiny") == tiny()
    assert resolve_config(tiny()) == tiny()
    with pytest.raises(ConfigError, match="unknown model preset 'large'; known: sam3, tiny"):
        resolve_config("large")
