import pytest
import torch

from sam3.config import NeckConfig
from sam3.errors import ConfigError
from sam3.model.vision.neck import FeaturePyramid


def test_used_levels_and_sizes() -> None:
    pyramid = FeaturePyramid(NeckConfig(), in_channels=16, out_channels=8)
    levels = pyramid(torch.randn(2, 16, 4, 6))
    assert [tuple(level.shape) for level in levels] == [(2, 8, 16, 24), (2, 8, 8, 12), (2, 8, 4, 6)]
    assert len(pyramid) == 4  # the dropped level keeps its weights


def test_the_dropped_level_halves_the_grid() -> None:
    pyramid = FeaturePyramid(NeckConfig(dropped_levels=0), in_channels=16, out_channels=8)
    assert pyramid(torch.randn(1, 16, 4, 6))[-1].shape == (1, 8, 2, 3)


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="3.0"):
        FeaturePyramid(NeckConfig(scale_factors=(3.0,)), 16, 8)
