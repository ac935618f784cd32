"""Change how a query asks: with an example box, with a box drawn less exactly (``spec/training.md`` 5.5)."""

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sam3.data.samples import Query, Sample
from sam3.ops.boxes import box_area, clip_boxes
from sam3.structures import VISUAL_PHRASE


def jitter_boxes(
    boxes: Tensor,
    noise: Tensor,
    *,
    size: tuple[int, int],
    std: float,
    max_shift: float | None,
    min_area: float = 0.0,
) -> Tensor:
    """Move the sides of boxes; a box that would end up too small stays as it was.

    Args:
        boxes: (N, 4) xyxy, pixels.
        noise: (N, 4) standard normal numbers.
        size: (H, W) of the image; the result is clipped to it.
        std: standard deviation as a share of the box's own width and height.
        max_shift: largest move of a side, pixels; ``None`` = no limit.
        min_area: boxes must keep more than this, square pixels.
    """
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    shift = std * noise * torch.stack([width, height, width, height], -1)
    if max_shift is not None:
        shift = shift.clamp(-max_shift, max_shift)
    moved = clip_boxes(boxes + shift, *size)
    too_small = box_area(moved) <= min_area
    return torch.where(too_small.unsqueeze(-1), boxes, moved)


@dataclass(frozen=True)
class JitterInputBoxes:
    """Example boxes as a person would draw them; targets stay exact."""

    std: float = 0.1
    max_shift: float | None = 20

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        return replace(sample, queries=[self._jitter(query, sample.size, rng) for query in sample.queries])

    def _jitter(self, query: Query, size: tuple[int, int], rng: random.Random) -> Query:
        boxes = query.input_boxes
        if not len(boxes):
            return query
        noise = torch.tensor([rng.gauss(0.0, 1.0) for _ in range(boxes.numel())]).view(boxes.shape)
        moved = jitter_boxes(boxes, noise, size=size, std=self.std, max_shift=self.max_shift)
        return replace(query, input_boxes=moved)


@dataclass(frozen=True)
class TextToVisual:
    """Ask by example instead of by word: one of the query's own objects becomes an input box.

    Applies with ``probability`` to queries that have objects and no input box yet.
    """

    probability: float
    keep_text: bool = False

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        queries = [self._convert(query, sample.objects.boxes, rng) for query in sample.queries]
        return replace(sample, queries=queries)

    def _convert(self, query: Query, boxes: Tensor, rng: random.Random) -> Query:
        if not query.object_indices or len(query.input_boxes) or rng.random() > self.probability:
            return query
        example = rng.choice(query.object_indices)
        return replace(
            query,
            phrase=query.phrase if self.keep_text else VISUAL_PHRASE,
            input_boxes=boxes[example : example + 1].clone(),
            input_box_labels=torch.ones(1, dtype=torch.long),
        )
