import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sam3.ops.boxes import (
    box_area,
    box_cxcywh_to_xyxy,
    box_iou,
    box_xywh_to_xyxy,
    box_xyxy_to_cxcywh,
    box_xyxy_to_xywh,
    clip_boxes,
    generalized_box_iou,
    inverse_sigmoid,
    paired_box_iou,
    paired_generalized_box_iou,
)

UNIT = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def random_boxes(count: int, seed: int) -> Tensor:
    """Corner boxes with sides of at least 0.01."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator)
    return torch.cat([low, low + 0.01 + torch.rand(count, 2, generator=generator)], -1)


@given(count=st.integers(0, 5), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_formats_round_trip(count: int, seed: int) -> None:
    boxes = random_boxes(count, seed)
    torch.testing.assert_close(box_cxcywh_to_xyxy(box_xyxy_to_cxcywh(boxes)), boxes)
    torch.testing.assert_close(box_xywh_to_xyxy(box_xyxy_to_xywh(boxes)), boxes)


def test_formats_by_hand() -> None:
    corners = torch.tensor([1.0, 2.0, 4.0, 8.0])
    assert box_xyxy_to_cxcywh(corners).tolist() == [2.5, 5, 3, 6]
    assert box_xyxy_to_xywh(corners).tolist() == [1, 2, 3, 6]
    assert box_area(corners) == 18


def test_overlap_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], [0.5, 0, 1.5, 1], [2, 0, 3, 1]])
    iou, union = box_iou(UNIT, boxes)
    torch.testing.assert_close(iou, torch.tensor([[1, 1 / 3, 0]]))
    torch.testing.assert_close(union, torch.tensor([[1, 1.5, 2]]))
    torch.testing.assert_close(generalized_box_iou(UNIT, boxes), torch.tensor([[1, 1 / 3, -1 / 3]]))


def test_paired_is_the_diagonal_of_pairwise() -> None:
    first, second = random_boxes(6, 1), random_boxes(6, 2)
    torch.testing.assert_close(paired_box_iou(first, second)[0], box_iou(first, second)[0].diagonal())
    paired = paired_generalized_box_iou(first, second)
    torch.testing.assert_close(paired, generalized_box_iou(first, second).diagonal())


def test_leading_dimensions_are_kept() -> None:
    first, second = random_boxes(6, 1).view(2, 3, 4), random_boxes(8, 2).view(2, 4, 4)
    batched = generalized_box_iou(first, second)
    assert batched.shape == (2, 3, 4)
    torch.testing.assert_close(batched[1], generalized_box_iou(first[1], second[1]))


@pytest.mark.parametrize("overlap", [lambda a, b: box_iou(a, b)[0], generalized_box_iou])
def test_no_boxes(overlap) -> None:
    assert overlap(torch.zeros(0, 4), UNIT).shape == (0, 1)
    assert overlap(UNIT, torch.zeros(0, 4)).shape == (1, 0)


def test_degenerate_boxes_give_finite_values_and_gradients() -> None:
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5]], requires_grad=True)
    value = generalized_box_iou(point, point.detach()) + box_iou(point, UNIT)[0]
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(point.grad).all()


def test_clip_moves_corners_inside_and_keeps_its_input() -> None:
    box = torch.tensor([[-1.0, 2.0, 9.0, 11.0]])
    assert clip_boxes(box, height=10, width=5).tolist() == [[0, 2, 5, 10]]
    assert box.tolist() == [[-1, 2, 9, 11]]


def test_inverse_sigmoid_inverts_and_saturates() -> None:
    logits = torch.linspace(-6, 6, 13)
    torch.testing.assert_close(inverse_sigmoid(logits.sigmoid()), logits, rtol=1e-4, atol=1e-4)
    ends = inverse_sigmoid(torch.tensor([-0.5, 0.0, 1.0, 2.0]))
    torch.testing.assert_close(ends, math.log(1000) * torch.tensor([-1.0, -1.0, 1.0, 1.0]))
