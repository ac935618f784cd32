"""Elementary losses: pure functions of logits and targets, finite for every finite input.

They are computed in the dtype of the logits; the callers pass float32. Source: ``spec/training.md`` 6.4.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Binary cross-entropy that counts easy elements less, element by element (arXiv 1708.02002).

    Args:
        logits: Any shape.
        targets: Same shape, in [0, 1]; fractions are allowed.
        alpha: Weight of a target 1; a target 0 weighs ``1 - alpha``.
        gamma: Exponent of the probability given to the wrong answer; 0 = weighted cross-entropy.
    """
    loss = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if gamma:
        probability = logits.sigmoid()
        wrong = probability + targets - 2 * probability * targets
        loss = (
            loss * wrong.clamp(min=torch.finfo(wrong.dtype).tiny) ** gamma
        )  # keeps 0 ** (gamma - 1) out of the gradient
    return loss * (alpha * targets + (1 - alpha) * (1 - targets))


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """``1 - (2 sum(p y) + 1) / (sum(p) + sum(y) + 1)`` of each mask: (N, ...) -> (N,)."""
    probabilities, targets = logits.sigmoid().flatten(1), targets.flatten(1)
    overlap = (probabilities * targets).sum(1)
    return 1 - (2 * overlap + 1) / (probabilities.sum(1) + targets.sum(1) + 1)


def iou_prediction_loss(predicted: Tensor, mask_logits: Tensor, masks: Tensor, *, l1: bool = False) -> Tensor:
    """Error of a predicted IoU against the IoU of the thresholded masks, element by element.

    Args:
        predicted: (...) predicted IoU.
        mask_logits: (..., H, W), thresholded at 0.
        masks: (..., H, W), inside where above 0.
        l1: Absolute instead of squared error.
    """
    inside, wanted = (mask_logits > 0).flatten(-2), (masks > 0).flatten(-2)
    union = (inside | wanted).sum(-1).clamp(min=1)
    error = predicted - (inside & wanted).sum(-1) / union
    return error.abs() if l1 else error.square()


def binary_f1(predicted: Tensor, wanted: Tensor) -> Tensor:
    """F1 of two bool tensors, a scalar; 0 when neither holds a True."""
    hits = (predicted & wanted).sum()
    return 2 * hits / (predicted.sum() + wanted.sum()).clamp(min=1)
