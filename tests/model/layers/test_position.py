import math

import pytest
import torch

from sam3.model.layers.position import encode_boxes, encode_coordinates, encode_map

CPU = torch.device("cpu")


def by_hand(angle: float, index: int, width: int) -> float:
    scaled = angle / 10000 ** (2 * (index // 2) / width)
    return math.cos(scaled) if index % 2 else math.sin(scaled)


def test_coordinates_by_hand() -> None:
    encoded = encode_coordinates(torch.tensor(0.3), 8)
    assert encoded.tolist() == pytest.approx([by_hand(2 * math.pi * 0.3, j, 8) for j in range(8)], abs=1e-6)


def test_boxes_are_encoded_as_y_x_w_h() -> None:
    box = torch.tensor([0.1, 0.2, 0.3, 0.4])
    parts = encode_boxes(box, 4).view(4, 4)
    for part, value in zip(parts, (0.2, 0.1, 0.3, 0.4), strict=True):
        torch.testing.assert_close(part, encode_coordinates(torch.tensor(value), 4))


def test_map_rows_first_then_columns() -> None:
    table = encode_map(3, 5, 8, CPU)
    assert table.shape == (1, 8, 3, 5)
    row, column = 2 / (3 + 1e-6) * 2 * math.pi, 4 / (5 + 1e-6) * 2 * math.pi
    expected = [by_hand(row, j, 4) for j in range(4)] + [by_hand(column, j, 4) for j in range(4)]
    assert table[0, :, 1, 3].tolist() == pytest.approx(expected, abs=1e-5)


def test_everything_is_computed_in_float32() -> None:
    assert encode_coordinates(torch.tensor([0.5], dtype=torch.bfloat16), 4).dtype == torch.float32
    table = encode_map(40, 30, 8, CPU)
    assert table.dtype == torch.float32
    assert torch.equal(encode_map(40, 30, 8, CPU, torch.bfloat16), table.bfloat16())


def test_a_table_made_in_inference_mode_serves_autograd() -> None:
    with torch.inference_mode():
        table = encode_map(2, 7, 4, CPU)
    weight = torch.ones(1, requires_grad=True)
    (weight * table).sum().backward()
    assert weight.grad is not None
    assert encode_map(2, 7, 4, CPU) is table  # computed once
