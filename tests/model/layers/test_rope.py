import math

import torch
from torch import Tensor

from sam3.model.layers.rope import apply_rotary, rotary_table

CPU = torch.device("cpu")


def table_of(height: int, width: int, *, window: int = 4, head_dim: int = 8) -> Tensor:
    return rotary_table(height, width, head_dim, window=window, theta=10000.0, device=CPU)


def test_angles_by_hand() -> None:
    angles = table_of(4, 4).angle().view(4, 4, 4)
    torch.testing.assert_close(angles[2, 1], torch.tensor([1.0, 0.01, 2.0, 0.02]))  # columns first, then rows


def test_larger_grids_are_squeezed_into_the_window() -> None:
    angles = table_of(8, 16).angle().view(8, 16, 4)
    torch.testing.assert_close(angles[6, 4, [0, 2]], torch.tensor([1.0, 3.0]))


def test_rotates_adjacent_pairs() -> None:
    x = torch.tensor([[[1.0, 0.0, 0.0, 2.0]]])
    table = torch.polar(torch.ones(1, 2), torch.tensor([[math.pi / 2, math.pi]]))
    torch.testing.assert_close(apply_rotary(x, table), torch.tensor([[[0.0, 1.0, 0.0, -2.0]]]), atol=1e-6, rtol=0)


def test_products_depend_on_the_difference_of_places_only() -> None:
    table = table_of(4, 4)
    query, key = torch.randn(8), torch.randn(8)
    queries = apply_rotary(query.expand(1, 16, 8), table)[0].view(4, 4, 8)
    keys = apply_rotary(key.expand(1, 16, 8), table)[0].view(4, 4, 8)
    torch.testing.assert_close(queries[0, 0] @ keys[1, 2], queries[2, 1] @ keys[3, 3], rtol=1e-4, atol=1e-5)


def test_dtype_and_layout_are_kept() -> None:
    x = torch.randn(2, 4, 3, 8)  # tokens before heads
    table = table_of(2, 2)
    rotated = apply_rotary(x, table)
    torch.testing.assert_close(rotated[:, :, 1], apply_rotary(x[:, :, 1], table))
    half = apply_rotary(x.bfloat16(), table)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), rotated, rtol=2e-2, atol=2e-2)
