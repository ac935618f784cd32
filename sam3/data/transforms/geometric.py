"""Resize, pad, flip and normalise an image together with its boxes and masks (``spec/training.md`` 5.5).

The functions do one thing each; the small classes below them choose the numbers at random.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, gcd

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sam3.data.samples import Mask, Sample
from sam3.errors import ConfigError
from sam3.ops import images, rle
from sam3.ops.boxes import box_xyxy_to_cxcywh
from sam3.ops.rle import Rle

_REFERENCE_RESOLUTION = 1008
_REFERENCE_STRIDE = 32
_LARGE_IMAGE = 1_000_000  # pixels; below, resizing whole masks is fast enough


def resize_scales(resolution: int, *, min_size: int = 480, stride: int | None = None) -> tuple[int, ...]:
    """Sides a training image may be resized to, up to ``resolution``; never empty.

    Multiples of ``stride`` from ``min_size`` on: 480, 512 ... 992 for 1008 and 480. A ``min_size`` above
    ``resolution`` is understood as one for 1008 and shrinks in proportion, as the stride does below 480, so
    that a small resolution gets about as many scales (112: 56, 60 ... 112).
    """
    if resolution < 1 or min_size < 1 or (stride is not None and stride < 1):
        raise ConfigError(
            f"resize scales need a positive resolution ({resolution}), min_size ({min_size}) and stride ({stride})"
        )
    ratio = resolution / _REFERENCE_RESOLUTION
    if stride is None:
        stride = _REFERENCE_STRIDE if resolution >= 480 else max(1, round(_REFERENCE_STRIDE * ratio))
    if min_size > resolution:
        min_size = max(1, round(min_size * ratio))
    scales = tuple(range(stride * ceil(min_size / stride), resolution + 1, stride))
    return scales or (resolution,)


def decode_mask(mask: Mask, box: Tensor, size: tuple[int, int]) -> Tensor | None:
    """(H, W) bool mask of one object.

    An encoded mask without a single pixel becomes the filled box, at least one pixel each way: the
    rasteriser drops objects thinner than a pixel.

    Args:
        box: (4,) xyxy, pixels.
        size: (H, W) of the image.
    """
    if mask is None or isinstance(mask, Tensor):
        return mask
    decoded = torch.from_numpy(np.ascontiguousarray(rle.decode(mask)))
    return decoded if decoded.any() else _filled_box(box, size)


def decode_masks(sample: Sample) -> Sample:
    """The sample with every annotated mask as a tensor; see :func:`decode_mask`."""
    return replace(sample, objects=replace(sample.objects, masks=_map_masks(sample, lambda mask: mask)))


def resize(sample: Sample, height: int, width: int) -> Sample:
    """Image bilinear with antialiasing; masks too, then rounded half to even; boxes and areas in proportion."""
    old_height, old_width = sample.size
    factors = torch.tensor([width / old_width, height / old_height] * 2)
    masks = sample.objects.masks
    if masks is not None:
        entries = zip(masks, sample.objects.boxes, strict=True)
        masks = [
            None if mask is None else _resize_mask(mask, box, sample.size, (height, width)) for mask, box in entries
        ]
    sample = sample.map_boxes(lambda boxes: boxes * factors)
    areas = sample.objects.areas * (factors[0] * factors[1])
    return replace(
        sample,
        image=sample.image.resize((width, height), Image.Resampling.BILINEAR),
        objects=replace(sample.objects, areas=areas, masks=masks),
    )


def pad(sample: Sample, *, left: int, top: int, right: int, bottom: int) -> Sample:
    """Black borders; everything moves by (left, top)."""
    height, width = sample.size
    image = Image.new("RGB", (left + width + right, top + height + bottom))
    image.paste(sample.image, (left, top))
    shift = torch.tensor([left, top, left, top], dtype=torch.float32)
    masks = _map_masks(sample, lambda mask: F.pad(mask, (left, right, top, bottom)))
    sample = sample.map_boxes(lambda boxes: boxes + shift)
    return replace(sample, image=image, objects=replace(sample.objects, masks=masks))


def horizontal_flip(sample: Sample) -> Sample:
    """Left becomes right. Phrases are not changed, so they must not speak of sides."""
    width = sample.size[1]
    masks = _map_masks(sample, lambda mask: mask.flip(-1))
    sample = sample.map_boxes(lambda boxes: torch.stack(_flipped(boxes, width), -1))
    image = sample.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return replace(sample, image=image, objects=replace(sample.objects, masks=masks))


def normalize(sample: Sample, mean: Sequence[float], std: Sequence[float]) -> Sample:
    """PIL image -> (3, H, W) float32, ``(value / 255 - mean) / std``; boxes -> cxcywh in [0, 1]."""
    height, width = sample.size
    pixels = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1)
    sides = torch.tensor([width, height, width, height], dtype=torch.float32)
    sample = sample.map_boxes(lambda boxes: box_xyxy_to_cxcywh(boxes) / sides)
    return replace(sample, image=images.normalize(pixels, mean, std))


@dataclass(frozen=True)
class RandomResize:
    """Both sides become one of ``sizes``; the aspect ratio is not kept."""

    sizes: tuple[int, ...]

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        side = rng.choice(self.sizes)
        return resize(sample, side, side)


@dataclass(frozen=True)
class PadToSize:
    """Pad to a square of ``size`` pixels; the image lands anywhere in it, the column drawn before the row."""

    size: int

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        height, width = sample.size
        if max(height, width) > self.size:
            raise ConfigError(f"an image of {width} x {height} pixels cannot be padded to {self.size}; resize it first")
        left = rng.randint(0, self.size - width)
        top = rng.randint(0, self.size - height)
        return pad(sample, left=left, top=top, right=self.size - width - left, bottom=self.size - height - top)


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Flip with the given probability. Off in the shipped pipelines: phrases know left and right."""

    probability: float

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        return horizontal_flip(sample) if rng.random() < self.probability else sample


@dataclass(frozen=True)
class Normalize:
    """The last step: PIL image to normalised tensor, boxes to the format of the network, masks decoded."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        return normalize(decode_masks(sample), self.mean, self.std)


def _map_masks(sample: Sample, change: Callable[[Tensor], Tensor]) -> list[Mask] | None:
    """``change`` applied to the decoded masks, one at a time: full-size masks are large."""
    objects = sample.objects
    if objects.masks is None:
        return None
    decoded = (decode_mask(mask, box, sample.size) for mask, box in zip(objects.masks, objects.boxes, strict=True))
    return [None if mask is None else change(mask) for mask in decoded]


def _resize_mask(mask: Rle | Tensor, box: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """(H, W) bool in the new size. A large encoded mask is decoded and resized around its object only."""
    if isinstance(mask, Tensor) or size[0] * size[1] < _LARGE_IMAGE or not rle.area(mask):
        return _interpolate(decode_mask(mask, box, size), new_size)
    left, top, width, height = (int(value) for value in rle.to_box_xywh(mask))
    old_rows, new_rows = _window(top, top + height, size[0], new_size[0])
    old_columns, new_columns = _window(left, left + width, size[1], new_size[1])
    columns = rle.decode_columns(mask, old_columns.start, old_columns.stop)
    window = torch.from_numpy(columns[old_rows])
    result = torch.zeros(new_size, dtype=torch.bool)
    target = result[new_rows, new_columns]
    target.copy_(_interpolate(window, target.shape))
    return result


def _interpolate(mask: Tensor, size: tuple[int, int]) -> Tensor:
    resized = F.interpolate(mask[None, None].float(), size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0, 0].round().bool()


def _window(start: int, stop: int, old: int, new: int) -> tuple[slice, slice]:
    """Part of an axis of ``old`` pixels that decides the result around start..stop, and the part of the ``new``
    pixels that it becomes. Both are whole multiples of one step, so the part is resized by exactly the same factor."""
    steps = gcd(old, new)
    old_step, new_step = old // steps, new // steps
    reach = 2 * max(1, ceil(old / new)) + 1  # of the filter, across the edge of the part and back
    first = max(0, (start - reach) // old_step)
    last = min(steps, ceil((stop + reach) / old_step))
    return slice(first * old_step, last * old_step), slice(first * new_step, last * new_step)


def _filled_box(box: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    left, top, right, bottom = (int(value) for value in box)
    left, top = min(left, width - 1), min(top, height - 1)
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    return mask


def _flipped(boxes: Tensor, width: int) -> tuple[Tensor, ...]:
    left, top, right, bottom = boxes.unbind(-1)
    return width - right, top, width - left, bottom
