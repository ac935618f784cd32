"""Hand-made samples for the tests of transforms and collation."""

import numpy as np
import torch
from PIL import Image

from sam3.data.samples import Mask, Objects, Query, Sample
from sam3.ops import rle


def make_sample(
    boxes: list[list[float]],
    queries: list[Query] | None = None,
    *,
    size: tuple[int, int] = (20, 30),
    masks: list[Mask] | str | None = "boxes",
    crowds: list[int] | None = None,
) -> Sample:
    """A noisy image; ``masks="boxes"`` fills each box, encoded as a file would have it."""
    height, width = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    table = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    sides = table[:, 2:] - table[:, :2]
    return Sample(
        image=Image.fromarray(pixels),
        objects=Objects(
            boxes=table,
            areas=sides.prod(1) / (height * width),
            is_crowd=torch.tensor([index in (crowds or []) for index in range(len(boxes))], dtype=torch.bool),
            masks=[_filled(box, size) for box in boxes] if masks == "boxes" else masks,
        ),
        queries=queries if queries is not None else [Query("thing", 1, tuple(range(len(boxes))))],
        image_id=7,
        file_name="ü.png",
        original_size=size,
    )


def _filled(box: list[float], size: tuple[int, int]) -> Mask:
    left, top, right, bottom = (round(value) for value in box)
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return rle.encode(mask)
