"""Arithmetic of object masks: resizing within a memory bound, overlap, bounding boxes.

Masks are boolean, True inside; the empty list (N = 0) is a valid input everywhere.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_BYTES = 128 * 2**20  # of float32 masks held at once while resizing
_EXACT_FLOAT32 = 2**24  # float32 counts pixels exactly up to here


def resize_mask_logits(
    logits: Tensor, size: tuple[int, int], *, max_bytes: int = CHUNK_BYTES
) -> Iterator[tuple[slice, Tensor]]:
    """Logits at another size, a few masks at a time.

    Bilinear, pixel centres aligned (``align_corners=False``), no antialias. Each mask is computed
    alone, so the values do not depend on how many come at once.

    Args:
        logits: (N, h, w), any float type.
        size: (height, width) wanted.
        max_bytes: bound on the float32 values of one chunk; a chunk holds at least one mask.

    Yields:
        The rows of ``logits`` that a chunk covers, and their resized logits (n, height, width) float32.
    """
    height, width = size
    step = max(1, max_bytes // (4 * height * width))
    for start in range(0, len(logits), step):
        rows = slice(start, min(start + step, len(logits)))
        yield rows, F.interpolate(logits[rows, None].float(), size, mode="bilinear", align_corners=False)[:, 0]


def resize_masks(logits: Tensor, size: tuple[int, int], *, max_bytes: int = CHUNK_BYTES) -> Tensor:
    """Masks at another size: resized logits whose probability exceeds one half.

    Beyond the result, about ``2 * max_bytes`` are held.

    Args:
        logits: (N, h, w).
        size: (height, width) wanted.
        max_bytes: see :func:`resize_mask_logits`.

    Returns:
        (N, height, width) bool.
    """
    masks = torch.empty((len(logits), *size), dtype=torch.bool, device=logits.device)
    for rows, resized in resize_mask_logits(logits, size, max_bytes=max_bytes):
        torch.gt(resized.sigmoid_(), 0.5, out=masks[rows])
    return masks


def resize_mask_probabilities(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, h, w) logits -> (N, height, width) float32 in [0, 1]; four bytes a pixel, all masks at once."""
    probabilities = torch.empty((len(logits), *size), dtype=torch.float32, device=logits.device)
    for rows, resized in resize_mask_logits(logits, size):
        torch.sigmoid(resized, out=probabilities[rows])
    return probabilities


def mask_iou(first: Tensor, second: Tensor) -> Tensor:
    """Every mask of one list with every mask of another.

    Args:
        first: (N, H, W) bool.
        second: (M, H, W) bool.

    Returns:
        (N, M) float32 intersection over union; 0 for two empty masks.
    """
    first, second = first.flatten(1), second.flatten(1)
    exact = torch.float32 if first.shape[1] <= _EXACT_FLOAT32 else torch.float64
    intersection = first.to(exact) @ second.to(exact).T
    union = first.sum(1)[:, None] + second.sum(1)[None] - intersection
    return (intersection / union.clamp(min=1)).float()


def strongest_per_pixel(logits: Tensor, *, floor: float = -10.0) -> Tensor:
    """Each pixel keeps the largest logit over N objects; the others are lowered to ``floor`` at most.

    Args:
        logits: (N, ..., H, W); of equal logits the first object's counts. One object alone stays as it is.
    """
    if len(logits) <= 1:
        return logits
    winner = logits.argmax(0, keepdim=True)
    index = torch.arange(len(logits), device=logits.device).reshape(-1, *[1] * (logits.dim() - 1))
    return torch.where(index == winner, logits, logits.clamp(max=floor))


def blank_if_mostly_lost(logits: Tensor, *, min_share: float, floor: float = -10.0) -> Tensor:
    """An object that keeps less than ``min_share`` of its area where others are stronger is lowered everywhere.

    An empty object keeps nothing of nothing: it is lowered too, also when it is alone.

    Args:
        logits: (N, ..., H, W).
    """
    own = (logits > 0).flatten(1).sum(1)
    kept = (strongest_per_pixel(logits, floor=floor) > 0).flatten(1).sum(1)
    is_lost = kept / own.clamp(min=1) < min_share
    return torch.where(is_lost.reshape(-1, *[1] * (logits.dim() - 1)), logits.clamp(max=floor), logits)


def without_overlap(masks: Tensor, scores: Tensor) -> Tensor:
    """Each pixel goes to the object with the highest score among those that cover it; scores must exceed 0.

    Args:
        masks: (N, H, W) bool.
        scores: (N,); of equal scores the first object's counts.

    Returns:
        (N, H, W) bool.
    """
    order = scores.sort(descending=True, stable=True).indices.tolist()
    result, taken = torch.zeros_like(masks), masks.new_zeros(masks.shape[1:])
    for index in order[: int((scores > 0).sum())]:
        torch.logical_and(masks[index], ~taken, out=result[index])
        taken |= masks[index]
    return result


def is_any(masks: Tensor) -> Tensor:
    """(N, H, W) bool -> (N,) bool: the mask has a pixel."""
    return _any(_any(masks, 1), 1)


def _any(masks: Tensor, axis: int) -> Tensor:
    """``masks.any(axis)``; on the CPU the maximum of bytes is found many times faster."""
    return masks.view(torch.uint8).amax(axis).bool() if masks.shape[axis] else masks.any(axis)


def masks_to_boxes(masks: Tensor) -> Tensor:
    """(N, H, W) bool -> (N, 4) float32 xyxy of pixel edges: one pixel at (0, 0) is (0, 0, 1, 1); zeros if empty."""
    spans = [_span(_any(masks, axis)) for axis in (1, 2)]
    return torch.stack([spans[0][0], spans[1][0], spans[0][1], spans[1][1]], -1).float()


def _span(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First occupied index and last + 1 of each row of (N, length) bool; 0, 0 for an empty row."""
    length = occupied.shape[1]
    index = torch.arange(length, device=occupied.device)
    last = torch.where(occupied, index + 1, 0).amax(1)
    first = torch.where(occupied, index, length).amin(1)
    return first.minimum(last), last
