import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sam3.train.losses.elementary import binary_f1, dice_loss, iou_prediction_loss, sigmoid_focal_loss


def test_focal_loss_of_known_values():
    logits = torch.tensor([0.0, 0.0, 2.0])
    targets = torch.tensor([1.0, 0.0, 1.0])
    found = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0)
    wrong = 1 / (1 + math.exp(2))
    expected = [0.25 * 0.25 * 0.693147, 0.75 * 0.25 * 0.693147, 0.25 * wrong**2 * -math.log(1 - wrong)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    logit=st.floats(-200, 200),
    target=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 1.6, 2.0]),
)
@example(logit=200.0, target=1.0, gamma=0.5)  # the power of 0 has an infinite slope
def test_focal_loss_and_its_gradient_are_finite(logit, target, gamma):
    x = torch.tensor([logit], requires_grad=True)
    loss = sigmoid_focal_loss(x, torch.tensor([target]), alpha=0.5, gamma=gamma)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(x.grad).all()


def test_gradient_of_gamma_zero_is_that_of_cross_entropy_at_saturated_logits():
    x = torch.tensor([17.0, 30.0, -30.0], requires_grad=True)
    y = torch.tensor([1.0, 0.0, 1.0])
    sigmoid_focal_loss(x, y, alpha=0.5, gamma=0.0).sum().backward()
    assert x.grad.tolist() == pytest.approx((0.5 * (torch.sigmoid(x) - y)).tolist(), abs=1e-6)


def test_focal_gradient_against_finite_differences():
    torch.manual_seed(0)
    x = torch.randn(12, dtype=torch.float64, requires_grad=True)
    y = torch.rand(12, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: sigmoid_focal_loss(v, y, alpha=0.3, gamma=1.6), x)


def test_dice_loss_is_zero_for_a_perfect_mask_and_near_one_for_a_wrong_one():
    mask = (torch.arange(100.0).view(1, 10, 10) % 2) == 0
    logits = torch.where(mask, 50.0, -50.0)
    assert dice_loss(logits, mask.float()).item() == pytest.approx(0.0, abs=1e-6)
    assert dice_loss(-logits, mask.float()).item() == pytest.approx(1 - 1 / 101, abs=1e-6)
    assert dice_loss(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4)).shape == (0,)


def test_iou_prediction_loss():
    logits = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    masks = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    predicted = torch.tensor([0.5, 0.25])
    assert iou_prediction_loss(predicted, logits, masks).tolist() == pytest.approx([(0.5 - 1 / 3) ** 2, 0.0625])
    assert iou_prediction_loss(predicted, logits, masks, l1=True).tolist() == pytest.approx([0.5 - 1 / 3, 0.25])


def test_binary_f1():
    predicted = torch.tensor([True, True, False, False])
    assert binary_f1(predicted, torch.tensor([True, False, True, False])).item() == pytest.approx(0.5)
    assert binary_f1(predicted, predicted).item() == 1
    assert binary_f1(torch.zeros(4).bool(), torch.zeros(4).bool()).item() == 0
