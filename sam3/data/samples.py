"""What transforms work on: one image, its objects, the queries asked of it.

A sample is never changed; a transform returns a new one that may share what it did not touch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from sam3.errors import DataError
from sam3.ops.rle import Rle

Mask = Rle | Tensor | None  # encoded in the size of the file; (H, W) bool in the size of the image; not annotated


class UnusableSample(DataError):
    """A transform left nothing to train on."""


@dataclass(frozen=True)
class Objects:
    """N annotated instances of one image."""

    boxes: Tensor  # (N, 4) xyxy in pixels of the current image; cxcywh in [0, 1] once it is a tensor
    areas: Tensor  # (N,) share of the original image, times both factors of every resize
    is_crowd: Tensor  # (N,) bool
    masks: list[Mask] | None  # one entry per object; None = masks were not loaded

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, indices: Sequence[int]) -> "Objects":
        """The objects at ``indices``, in that order."""
        rows = torch.as_tensor(list(indices), dtype=torch.long)
        masks = None if self.masks is None else [self.masks[index] for index in indices]
        return Objects(self.boxes[rows], self.areas[rows], self.is_crowd[rows], masks)


@dataclass(frozen=True)
class Query:
    """One phrase asked of the image, optionally with example boxes."""

    phrase: str
    category_id: int
    object_indices: tuple[int, ...]  # empty = the phrase is absent
    is_exhaustive: bool = True  # every instance of the phrase is annotated
    pair_id: int | None = None  # where every (image, phrase) pair has an id of its own (SA-Co); None = the image's
    input_boxes: Tensor = field(default_factory=lambda: torch.zeros(0, 4))  # (K, 4) in the format of Objects.boxes
    input_box_labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))  # (K,) 1 = positive


@dataclass(frozen=True)
class Sample:
    """One image with everything asked of it."""

    image: Image.Image | Tensor  # PIL RGB, at the end of the pipeline (3, H, W) normalised
    objects: Objects
    queries: list[Query]
    image_id: int  # COCO id
    file_name: str
    original_size: tuple[int, int]  # (height, width) of the file
    skipped: tuple[str, ...] = ()  # why the samples that this one stands in for could not be used

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the current image."""
        if isinstance(self.image, Tensor):
            return self.image.shape[-2], self.image.shape[-1]
        return self.image.height, self.image.width

    def map_boxes(self, change: Callable[[Tensor], Tensor]) -> "Sample":
        """The sample with ``change`` applied to object boxes and to input boxes, both (..., 4)."""
        objects = replace(self.objects, boxes=change(self.objects.boxes))
        queries = [
            replace(query, input_boxes=change(query.input_boxes)) if len(query.input_boxes) else query
            for query in self.queries
        ]
        return replace(self, objects=objects, queries=queries)
