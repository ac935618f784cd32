"""Raw outputs of many prompts to one set of objects per picture, as evaluation wants them (spec/evaluation.md 5).

The objects themselves are made by :func:`sam3.model.postprocess.detections`, like everywhere else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sam3.model.postprocess import detections
from sam3.ops import rle
from sam3.structures import DetectorOutput, ImageObjects, to_device


class Stage(NamedTuple):
    """The output of one forward pass and the pictures its P prompts belong to."""

    output: DetectorOutput
    image_ids: Sequence[int]  # P: the results of equal ids are joined
    original_sizes: Sequence[tuple[int, int]]  # P (height, width)
    category_ids: Sequence[int] | None = None  # P; None: every object has the label 1


@dataclass(frozen=True)
class ImagePostprocessor:
    """The settings that the evaluation runs differ in.

    Args:
        max_detections: the best ones of each picture, by falling score; -1 keeps all in the order of prompts, queries.
        score_threshold: scores strictly above it are kept; 0 or less keeps every query.
        with_masks: also make masks.
        pixel_boxes: boxes in pixels of the original picture instead of shares of it.
        pixel_masks: masks at the size of the original picture instead of one pixel.
        compressed_masks: as RLE instead of arrays.
        use_presence: multiply scores by the probability that the phrase is in the picture at all.
        to_cpu: move the results there.
    """

    max_detections: int = -1
    score_threshold: float = -1.0
    with_masks: bool = False
    pixel_boxes: bool = False
    pixel_masks: bool = False
    compressed_masks: bool = False
    use_presence: bool = True
    to_cpu: bool = True

    def collect(self, stages: Iterable[Stage]) -> dict[int, ImageObjects]:
        """The objects of every picture, by its id, in order of first appearance."""
        parts: dict[int, list[ImageObjects]] = {}
        for stage in stages:
            for image_id, found in zip(stage.image_ids, self._prompts(stage), strict=True):
                parts.setdefault(int(image_id), []).append(found)
        return {image_id: self._best(_joined(found)) for image_id, found in parts.items()}

    def _prompts(self, stage: Stage) -> list[ImageObjects]:
        one_pixel = [(1, 1)] * len(stage.original_sizes)
        found = detections(
            stage.output,
            original_sizes=stage.original_sizes if self.pixel_masks else one_pixel,
            box_sizes=stage.original_sizes if self.pixel_boxes else one_pixel,
            score_threshold=self.score_threshold if self.score_threshold > 0 else -1.0,
            with_masks=self.with_masks,
            use_presence=self.use_presence,
        )
        if self.to_cpu:
            found = [to_device(part, "cpu") for part in found]
        labels = stage.category_ids if stage.category_ids is not None else [1] * len(found)
        return [
            ImageObjects(part.scores, torch.full_like(part.scores, int(label), dtype=torch.long), part.boxes, masks)
            for part, label in zip(found, labels, strict=True)
            for masks in (self._compressed(part.masks) if self.compressed_masks else part.masks,)
        ]

    def _compressed(self, masks: Tensor | None) -> list[rle.Rle] | None:
        return None if masks is None else [rle.encode(np.asarray(mask)) for mask in masks.cpu()]

    def _best(self, found: ImageObjects) -> ImageObjects:
        if not 0 < self.max_detections < len(found):
            return found
        order = found.scores.sort(descending=True, stable=True).indices
        return found.take(order[: self.max_detections])


def _joined(parts: Sequence[ImageObjects]) -> ImageObjects:
    if len(parts) == 1:
        return parts[0]
    masks = [part.masks for part in parts]
    if isinstance(masks[0], list):
        together = [mask for part in masks for mask in part]
    else:
        together = None if masks[0] is None else torch.cat(masks)
    tensors = (torch.cat([getattr(part, name) for part in parts]) for name in ("scores", "labels", "boxes"))
    return ImageObjects(*tensors, together)
