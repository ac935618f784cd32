"""Connected parts of masks, and logits without their small holes and specks."""

import numpy as np
import torch
from torch import Tensor

_NEIGHBOURS = np.ones((3, 3), dtype=bool)  # 8-connected


def component_areas(masks: Tensor) -> Tensor:
    """(N, H, W) bool -> (N, H, W) int64: pixels of the 8-connected part that a pixel belongs to; 0 outside."""
    from scipy.ndimage import label

    areas = np.zeros(masks.shape, dtype=np.int64)
    for mask, area in zip(masks.cpu().numpy(), areas, strict=True):
        parts, _ = label(mask, _NEIGHBOURS)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        area[...] = sizes[parts]
    return torch.from_numpy(areas).to(masks.device)


def fill_small_holes(logits: Tensor, max_area: int, *, value: float = 0.1) -> Tensor:
    """Background parts (logit <= 0) of at most ``max_area`` pixels become ``value``; (N, H, W) -> (N, H, W)."""
    areas = component_areas(logits <= 0)
    return torch.where((areas > 0) & (areas <= max_area), logits.new_tensor(value), logits)


def remove_small_specks(logits: Tensor, max_area: int, *, value: float = -0.1) -> Tensor:
    """Foreground parts of at most ``max_area`` pixels, and of at most half the object, become ``value``."""
    inside = logits > 0
    areas = component_areas(inside)
    limit = (inside.flatten(1).sum(1) // 2).clamp(max=max_area)[:, None, None]
    return torch.where((areas > 0) & (areas <= limit), logits.new_tensor(value), logits)


def clean_masks(logits: Tensor, max_area: int) -> Tensor:
    """First holes, then specks; ``max_area`` 0 changes nothing (spec/tracker_video.md 6.4, 3)."""
    if max_area <= 0 or not len(logits):
        return logits
    return remove_small_specks(fill_small_holes(logits, max_area), max_area)
