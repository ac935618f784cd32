"""Answers of a young network, changed into those of a trained one as far as the losses can tell.

Random weights hit few objects, so hardly any query of theirs is matched. Here as many queries lie on every object as
the one-to-many matcher takes, which is what the losses cost once a network has learnt.
"""

from sam3.ops.boxes import box_cxcywh_to_xyxy
from sam3.structures import DetectorOutput, QueryPredictions, Targets, map_tensors


def settled(output: DetectorOutput, targets: Targets, *, copies: int) -> DetectorOutput:
    """``output``, changed in place, as leaves that gradients of the losses can reach."""
    for layer in layers(output):
        _settle(layer, targets, copies)
    return map_tensors(output, lambda tensor: tensor.detach().requires_grad_(tensor.is_floating_point()))


def layers(output: DetectorOutput) -> list[QueryPredictions]:
    """The answers of all layers, one-to-one and one-to-many."""
    every = [output.one_to_one, output.one_to_many, *output.aux_one_to_one, *output.aux_one_to_many]
    return [layer for layer in every if layer is not None]


def _settle(predictions: QueryPredictions, targets: Targets, copies: int) -> None:
    """Put ``copies`` confident queries on every object, as far as there are queries."""
    first = 0
    for prompt, count in enumerate(targets.num_boxes.tolist()):
        boxes = targets.boxes[first : first + count].repeat(copies, 1)[: predictions.boxes.shape[1]]
        predictions.boxes[prompt, : len(boxes)] = boxes.to(predictions.boxes.dtype)
        predictions.logits[prompt, : len(boxes)] = 2.0
        first += count
    predictions.boxes_xyxy = box_cxcywh_to_xyxy(predictions.boxes)
