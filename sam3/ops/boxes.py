"""Arithmetic of boxes: formats, areas, overlaps.

Every function takes the box on the last axis and accepts any leading shape, N = 0 included.
Formats: ``cxcywh`` centre and size, ``xyxy`` two corners, ``xywh`` corner and size; unit free unless said.
"""

import torch
from torch import Tensor


def box_cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size -> corners; not clipped."""
    center, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([center - size / 2, center + size / 2], -1)


def box_xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) corners -> centre and size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def box_xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) top-left corner and size -> corners."""
    low, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([low, low + size], -1)


def box_xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """(..., 4) corners -> top-left corner and size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([low, high - low], -1)


def clip_boxes(boxes: Tensor, height: float, width: float) -> Tensor:
    """(..., 4) xyxy moved into the rectangle [0, width] x [0, height]."""
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)


def box_area(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy -> (...) area; negative for a box with one swapped axis."""
    size = boxes[..., 2:] - boxes[..., :2]
    return size[..., 0] * size[..., 1]


def box_iou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Every box of one list with every box of another.

    Args:
        first: (..., N, 4) xyxy.
        second: (..., M, 4) xyxy.

    Returns:
        IoU and union, both (..., N, M). The IoU of two empty boxes is 0.
    """
    return _overlap(first.unsqueeze(-2), second.unsqueeze(-3))


def paired_box_iou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row: (..., 4) and (..., 4) xyxy -> IoU and union, both (...)."""
    return _overlap(first, second)


def generalized_box_iou(first: Tensor, second: Tensor) -> Tensor:
    """GIoU in [-1, 1] of every pair: (..., N, 4), (..., M, 4) xyxy -> (..., N, M). Source: arXiv 1902.09630."""
    return _generalized_overlap(first.unsqueeze(-2), second.unsqueeze(-3))


def paired_generalized_box_iou(first: Tensor, second: Tensor) -> Tensor:
    """GIoU in [-1, 1] row by row: (..., 4), (..., 4) xyxy -> (...)."""
    return _generalized_overlap(first, second)


def inverse_sigmoid(probabilities: Tensor, eps: float = 1e-3) -> Tensor:
    """Logit of a probability, both p and 1 - p raised to at least ``eps`` (spec detector 10: 1e-3)."""
    probabilities = probabilities.clamp(0, 1)
    return torch.log(probabilities.clamp(min=eps) / (1 - probabilities).clamp(min=eps))


def _overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    size = (high - low).clamp(min=0)
    intersection = size[..., 0] * size[..., 1]
    union = box_area(first) + box_area(second) - intersection
    return _safe_ratio(intersection, union), union


def _generalized_overlap(first: Tensor, second: Tensor) -> Tensor:
    iou, union = _overlap(first, second)
    low = torch.minimum(first[..., :2], second[..., :2])
    high = torch.maximum(first[..., 2:], second[..., 2:])
    size = (high - low).clamp(min=0)
    hull = size[..., 0] * size[..., 1]
    return iou - _safe_ratio(hull - union, hull)


def _safe_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """0 where the denominator is 0, with a zero gradient there too."""
    empty = denominator == 0
    return torch.where(empty, 0.0, numerator / torch.where(empty, 1.0, denominator))
