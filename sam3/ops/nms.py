"""Greedy suppression of duplicates."""

import torch
from torch import Tensor


def greedy_nms(ious: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Which of N candidates stay: by falling score, those that overlap none of the kept by more than the threshold.

    Args:
        ious: (N, N).
        scores: (N,); equal scores keep the order of the input.

    Returns:
        (N,) bool.
    """
    overlaps = (ious > iou_threshold).cpu()
    kept = torch.zeros(len(scores), dtype=torch.bool)
    for index in scores.cpu().sort(descending=True, stable=True).indices.tolist():
        kept[index] = not bool((overlaps[index] & kept).any())
    return kept.to(scores.device)
