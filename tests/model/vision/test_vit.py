from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sam3.config import ModelConfig
from sam3.errors import DataError
from sam3.model.vision.vit import ViT, join_windows, split_windows


@pytest.fixture
def trunk(config: ModelConfig) -> ViT:
    torch.manual_seed(0)
    trunk = ViT(config.vision).eval()
    torch.nn.init.normal_(trunk.pos_embed)
    return trunk


@pytest.mark.parametrize(("height", "width", "size"), [(6, 6, 3), (4, 7, 3), (2, 2, 5), (1, 9, 4)])
def test_windows_round_trip(height: int, width: int, size: int) -> None:
    x = torch.randn(2, height, width, 3)
    windows = split_windows(x, size)
    assert windows.shape[1:] == (size, size, 3)
    assert torch.equal(join_windows(windows, height, width), x)


def test_windows_are_neighbouring_tokens() -> None:
    x = torch.arange(16.0).view(1, 4, 4, 1)
    assert split_windows(x, 2)[1, :, :, 0].tolist() == [[2, 3], [6, 7]]


@pytest.mark.parametrize("size", [(56, 56), (28, 84), (14, 14), (112, 70)])
def test_any_multiple_of_the_patch(trunk: ViT, size: tuple[int, int]) -> None:
    out = trunk(torch.randn(1, 3, *size))
    assert out.shape == (1, 32, size[0] // 14, size[1] // 14)
    assert torch.isfinite(out).all()


def test_other_sizes_are_refused(trunk: ViT) -> None:
    with pytest.raises(DataError, match="57 x 56.*multiples of 14"):
        trunk(torch.randn(1, 3, 57, 56))


def test_images_of_a_batch_are_independent(trunk: ViT, images: Tensor) -> None:
    torch.testing.assert_close(trunk(images)[1:], trunk(images[1:]), rtol=1e-4, atol=1e-5)


def test_positions_are_tiled(trunk: ViT) -> None:
    positions = trunk._absolute_positions(3, 5)[0]
    grid = trunk.pos_embed[0, 1:].view(2, 2, -1)
    assert torch.equal(positions[2, 4], grid[0, 0])
    assert torch.equal(positions[1, 3], grid[1, 1])


def test_window_blocks_see_their_window_only(config: ModelConfig) -> None:
    local = ViT(replace(config.vision, depth=2, global_blocks=(1,), window_size=2)).eval()
    block = local.blocks[0]
    x = torch.randn(1, 4, 4, 32)
    changed = x.clone()
    changed[:, 2:, 2:] *= -1
    torch.testing.assert_close(block(x)[:, :2, :2], block(changed)[:, :2, :2])
    whole = local.blocks[1]
    assert not torch.allclose(whole(x)[:, :2, :2], whole(changed)[:, :2, :2])


def test_drop_path_grows_linearly(config: ModelConfig) -> None:
    trunk = ViT(replace(config.vision, depth=5, global_blocks=(4,)))
    assert [block.drop_path.rate for block in trunk.blocks] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
