"""Random predictions and targets for the tests of matchers and losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sam3.ops.boxes import box_cxcywh_to_xyxy
from sam3.structures import DetectorOutput, QueryPredictions, Targets


def random_boxes(*shape: int) -> Tensor:
    """cxcywh boxes inside the unit square, (*shape, 4)."""
    size = torch.rand(*shape, 2) * 0.5 + 0.05
    return torch.cat([size / 2 + torch.rand(*shape, 2) * (1 - size), size], -1)


def pack_targets(boxes: Sequence[Tensor], masks: Tensor | None = None, exhaustive: bool = True) -> Targets:
    """Targets of prompts whose objects are the rows of ``boxes``, each (N, 4)."""
    most = max((len(own) for own in boxes), default=0)
    padded, ids = torch.zeros(len(boxes), most, 4), torch.full((len(boxes), most), -1)
    for prompt, own in enumerate(boxes):
        padded[prompt, : len(own)] = own
        ids[prompt, : len(own)] = torch.arange(len(own))
    packed = torch.cat([*boxes, torch.zeros(0, 4)])
    return Targets(
        num_boxes=torch.tensor([len(own) for own in boxes], dtype=torch.long),
        boxes=packed,
        boxes_padded=padded,
        object_ids=ids[ids >= 0],
        object_ids_padded=ids,
        is_exhaustive=torch.full((len(boxes),), exhaustive),
        masks=masks,
        mask_is_valid=None if masks is None else torch.ones(len(packed), dtype=torch.bool),
    )


def random_targets(*counts: int, mask_size: int | None = None) -> Targets:
    """Targets of ``len(counts)`` prompts with so many objects each."""
    masks = None if mask_size is None else torch.rand(sum(counts), mask_size, mask_size) > 0.5
    return pack_targets([random_boxes(count) for count in counts], masks)


def predictions_from(boxes: Tensor, logits: Tensor, **others: Tensor | None) -> QueryPredictions:
    return QueryPredictions(logits=logits, boxes=boxes, boxes_xyxy=box_cxcywh_to_xyxy(boxes), **others)


def random_predictions(
    prompts: int, queries: int, *, mask_size: int | None = None, presence: bool = True, scale: float = 1.0
) -> QueryPredictions:
    """Predictions with gradients; logits have standard deviation ``scale``."""
    masks = None if mask_size is None else torch.randn(prompts, queries, mask_size, mask_size) * scale
    return predictions_from(
        random_boxes(prompts, queries).requires_grad_(),
        (torch.randn(prompts, queries, 1) * scale).requires_grad_(),
        presence_logits=(torch.randn(prompts, 1) * scale).requires_grad_() if presence else None,
        masks=None if masks is None else masks.requires_grad_(),
    )


def random_output(
    prompts: int, queries: int, *, aux: int = 2, mask_size: int | None = 8, scale: float = 1.0
) -> DetectorOutput:
    """Output of the detector in training mode."""
    return DetectorOutput(
        one_to_one=random_predictions(prompts, queries, mask_size=mask_size, scale=scale),
        one_to_many=random_predictions(prompts, queries, mask_size=mask_size, presence=False, scale=scale),
        aux_one_to_one=[random_predictions(prompts, queries, scale=scale) for _ in range(aux)],
        aux_one_to_many=[random_predictions(prompts, queries, presence=False, scale=scale) for _ in range(aux)],
    )


def leaves_of(output: DetectorOutput) -> list[Tensor]:
    """Every tensor that collects a gradient."""
    layers = [output.one_to_one, output.one_to_many, *output.aux_one_to_one, *output.aux_one_to_many]
    tensors = [value for layer in layers if layer is not None for value in vars(layer).values()]
    return [tensor for tensor in tensors if tensor is not None and tensor.is_leaf]
