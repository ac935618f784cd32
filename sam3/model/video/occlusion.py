"""Of two tracks on the same pixels, the one that was occluded more recently gives way (spec/tracker_video.md 6.8)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sam3.ops.masks import mask_iou

NEVER = -1  # last occlusion of an object that was always seen


def overlapping_to_blank(
    masks: Tensor,
    last_occluded: Sequence[int],
    iou_threshold: float,
    *,
    is_reverse: bool = False,
    symmetric: bool = True,
) -> Tensor:
    """Which of N tracks give way.

    Args:
        masks: (N, H, W) bool.
        last_occluded: the last frame on which each was empty or gave way, :data:`NEVER` = none.
        iou_threshold: inclusive.
        symmetric: time runs backward as it runs forward: an object that was never occluded does not give way. The
            reference makes it give way when it tracks backward.

    Returns:
        (N,) bool.
    """
    count = len(masks)
    if count <= 1:
        return torch.zeros(count, dtype=torch.bool, device=masks.device)
    last = torch.tensor(list(last_occluded), device=masks.device)
    first, second = (mask_iou(masks, masks) >= iou_threshold).triu(1).nonzero().unbind(1)
    a, b = last[first], last[second]
    later_a, later_b = (a < b, a > b) if is_reverse else (a > b, a < b)
    later_a, later_b = later_a & (b > NEVER), later_b & (a > NEVER)
    if symmetric:
        later_a, later_b = later_a & (a > NEVER), later_b & (b > NEVER)
    gives_way = torch.zeros(count, dtype=torch.bool, device=masks.device)
    gives_way[first[later_a]] = True
    gives_way[second[later_b]] = True
    return gives_way
