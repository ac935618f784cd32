import math

import pytest
import torch
from torch import Tensor

from sam3.ops.roi_align import roi_align


def bilinear(plane: Tensor, y: float, x: float) -> float:
    """One sample, by the rules of the compiled kernels."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = plane[top, left] * (1 - across) + plane[top, right] * across
    lower = plane[bottom, left] * (1 - across) + plane[bottom, right] * across
    return float(upper * (1 - down) + lower * down)


def slow_roi_align(plane: Tensor, box: list[float], cells: int) -> Tensor:
    """The definition, sample by sample."""
    x0, y0, x1, y1 = box
    width, height = max(x1 - x0, 1.0), max(y1 - y0, 1.0)
    across, down = math.ceil(width / cells), math.ceil(height / cells)
    out = torch.zeros(cells, cells)
    for row in range(cells):
        for column in range(cells):
            samples = [
                bilinear(
                    plane,
                    y0 + (row + (i + 0.5) / down) * height / cells,
                    x0 + (column + (j + 0.5) / across) * width / cells,
                )
                for i in range(down)
                for j in range(across)
            ]
            out[row, column] = sum(samples) / len(samples)
    return out


@pytest.mark.parametrize(
    "box",
    [
        [1.0, 2.0, 5.0, 6.0],
        [0.0, 0.0, 9.0, 7.0],  # the whole map
        [3.3, 1.7, 3.4, 1.8],  # less than one cell
        [-4.0, -9.0, 3.0, 2.5],  # far outside at the top left
        [5.0, 4.0, 31.0, 23.0],  # far outside at the bottom right, several samples per cell
        [20.0, 20.0, 25.0, 25.0],  # nothing of it inside
        [2.0, 1.0, 8.0, 1.5],  # flat
    ],
)
def test_equals_the_definition(box: list[float]) -> None:
    features = torch.randn(1, 2, 7, 9, generator=torch.Generator().manual_seed(0))
    pooled = roi_align(features, torch.tensor([box]), torch.tensor([0]), 3)
    for channel in range(2):
        expected = slow_roi_align(features[0, channel], box, 3)
        torch.testing.assert_close(pooled[0, channel], expected, rtol=1e-5, atol=1e-6)


def test_each_box_reads_its_own_image() -> None:
    features = torch.stack([torch.zeros(1, 6, 6), torch.ones(1, 6, 6)])
    boxes = torch.tensor([[1.0, 1.0, 4.0, 4.0]]).repeat(3, 1)
    pooled = roi_align(features, boxes, torch.tensor([1, 0, 1]), 2)
    torch.testing.assert_close(pooled.mean((1, 2, 3)), torch.tensor([1.0, 0.0, 1.0]))


def test_boxes_of_one_batch_do_not_influence_each_other() -> None:
    features = torch.randn(2, 3, 8, 8)
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [1.0, 2.0, 2.0, 3.5]])
    index = torch.tensor([0, 1])
    together = roi_align(features, boxes, index, 4)
    alone = roi_align(features, boxes[1:], index[1:], 4)
    torch.testing.assert_close(together[1:], alone)


def test_no_boxes() -> None:
    empty = roi_align(torch.randn(2, 3, 4, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 7)
    assert empty.shape == (0, 3, 7, 7)


def test_half_precision_keeps_its_dtype() -> None:
    features = torch.randn(1, 2, 5, 5)
    boxes, index = torch.tensor([[0.5, 0.5, 4.0, 4.0]]), torch.tensor([0])
    half = roi_align(features.bfloat16(), boxes.bfloat16(), index, 2)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), roi_align(features, boxes, index, 2), rtol=2e-2, atol=2e-2)


def test_autocast_does_not_lower_the_precision() -> None:
    features, boxes, index = torch.randn(1, 2, 5, 5), torch.tensor([[0.5, 0.5, 4.0, 4.0]]), torch.tensor([0])
    with torch.autocast("cpu", torch.bfloat16):
        pooled = roi_align(features, boxes, index, 2)
    assert torch.equal(pooled, roi_align(features, boxes, index, 2))


def test_gradient_reaches_the_features() -> None:
    features = torch.randn(1, 1, 5, 5, dtype=torch.float32, requires_grad=True)
    roi_align(features, torch.tensor([[1.0, 1.0, 3.0, 3.0]]), torch.tensor([0]), 2).sum().backward()
    assert features.grad.sum().item() == pytest.approx(4.0, rel=1e-5)
