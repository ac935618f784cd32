"""From pixels to what the network reads (spec/detector.md section 14)."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor


def preprocess(image: ArrayLike, resolution: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """An RGB picture as the network's input, on the CPU.

    Args:
        image: (H, W, 3) uint8 array, or an RGB PIL image.
        resolution: side of the square output; the aspect ratio is not kept.
        mean: per channel, of values in [0, 1].
        std: per channel.

    Returns:
        (3, resolution, resolution) float32.
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return normalize(resize_square_uint8(pixels, resolution), mean, std)


def resize_square_uint8(image: Tensor, size: int) -> Tensor:
    """(3, H, W) uint8 -> (3, size, size) uint8, bilinear with antialias, rounded to whole grey levels.

    On the CPU the resize runs on the bytes themselves, the arithmetic the released weights saw;
    other devices resize floats and round, which differs by at most one grey level.
    """
    pixels = image[None].contiguous()
    if image.device.type == "cpu":
        return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)[0]
    resized = F.interpolate(pixels.float(), (size, size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)[0]


def normalize(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(..., 3, H, W) uint8 -> float32 ``(image / 255 - mean) / std``."""
    values = image.float() / 255
    return (values - _per_channel(mean, values)) / _per_channel(std, values)


def _per_channel(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
