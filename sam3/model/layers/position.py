"""Sine encodings of map cells and of coordinates (spec detector 6.2, 7, 10).

Everything is computed in float32, whatever the network's dtype, and for the size asked for.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

TEMPERATURE = 10000.0


def encode_coordinates(values: Tensor, width: int) -> Tensor:
    """(...) in [0, 1] -> (..., width) float32: interleaved sin and cos of 2 pi v / 10000^(2 floor(j/2) / width)."""
    return _encode_angles(values.float() * (2 * math.pi), width)


def encode_boxes(boxes: Tensor, width: int) -> Tensor:
    """(..., 4) cxcywh -> (..., 4 * width) float32, in the order y, x, w, h of the decoder's queries."""
    return encode_coordinates(boxes[..., [1, 0, 2, 3]], width).flatten(-2)


def encode_offsets(offsets: Tensor, width: int) -> Tensor:
    """(...) -> (..., width) float32: all sines of t / 10000^(2 floor(i/2) / (width/2)), then all cosines."""
    half = width // 2
    index = torch.arange(half, device=offsets.device) // 2 * 2
    angles = offsets.float()[..., None] / TEMPERATURE ** (index / half)
    return torch.cat([angles.sin(), angles.cos()], -1)


@lru_cache(maxsize=16)
def encode_map(
    height: int, width: int, channels: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(1, channels, height, width): the rows' encoding in the first half of the channels, the columns' in the second.

    Cell i of n has the angle (i + 1) / (n + 1e-6) * 2 pi. Computed in float32, then cast.
    """
    # Cached tensors must be usable by autograd even if the first caller runs in inference mode.
    with torch.inference_mode(False), torch.no_grad():
        half = channels // 2
        rows = _encode_angles(_cell_angles(height, device), half).T[:, :, None].expand(half, height, width)
        columns = _encode_angles(_cell_angles(width, device), half).T[:, None, :].expand(half, height, width)
        return torch.cat([rows, columns])[None].to(dtype)


def _cell_angles(length: int, device: torch.device) -> Tensor:
    index = torch.arange(1, length + 1, dtype=torch.float32, device=device)
    return index / (length + 1e-6) * (2 * math.pi)


def _encode_angles(angles: Tensor, width: int) -> Tensor:
    pair = torch.arange(width // 2, dtype=torch.float32, device=angles.device)
    scaled = angles[..., None] / TEMPERATURE ** (2 * pair / width)
    return torch.stack([scaled.sin(), scaled.cos()], -1).flatten(-2)
