"""Raw outputs of the detector to objects in pixels (spec/detector.md section 14, spec/evaluation.md section 5)."""

import math
from collections.abc import Sequence

from torch import Tensor

from sam3.errors import DataError
from sam3.ops.masks import resize_mask_probabilities, resize_masks
from sam3.structures import Detections, DetectorOutput


def detections(
    output: DetectorOutput,
    *,
    original_sizes: Sequence[tuple[int, int]],
    box_sizes: Sequence[tuple[int, int]] | None = None,
    score_threshold: float,
    max_detections: int = -1,
    with_masks: bool = True,
    with_mask_probs: bool = False,
    max_mask_prob_bytes: float = math.inf,
    use_presence: bool = True,
) -> list[Detections]:
    """The objects of each prompt, in pixels of its original image.

    Args:
        output: of P prompts.
        original_sizes: (height, width) in pixels of each prompt's image, P of them.
        box_sizes: (height, width) that boxes are multiplied with; the original sizes, or (1, 1) = shares of the image.
        score_threshold: scores strictly above it are kept; a negative one keeps every query.
        max_detections: if more remain, the best ones, sorted by falling score; otherwise, and with -1,
            the order is that of the queries.
        with_masks: resize masks to the original size, if the model has a segmentation head.
        with_mask_probs: also keep the probabilities, 4 bytes a pixel and object ...
        max_mask_prob_bytes: ... of the prompts whose probabilities need no more than this.
        use_presence: multiply by the probability that the phrase is in the image at all.

    Returns:
        P lists of objects; float32 boxes are not clipped to the image.
    """
    predictions = output.one_to_one
    if len(original_sizes) != len(predictions.logits):
        raise DataError(f"{len(predictions.logits)} prompts need as many original sizes, got {len(original_sizes)}")
    scores = predictions.scores(use_presence=use_presence)
    found = []
    for prompt, (height, width) in enumerate(original_sizes):
        kept = _keep(scores[prompt], score_threshold, max_detections)
        boxes = predictions.boxes_xyxy[prompt, kept].float()
        down, across = (height, width) if box_sizes is None else box_sizes[prompt]
        detected = Detections(boxes * boxes.new_tensor([across, down, across, down]), scores[prompt, kept])
        if predictions.masks is not None:
            logits, size = predictions.masks[prompt, kept], (height, width)
            if with_mask_probs and 4 * len(kept) * height * width <= max_mask_prob_bytes:
                detected.mask_probs = resize_mask_probabilities(logits, size)
            if with_masks:
                detected.masks = _masks(logits, size, detected.mask_probs)
        found.append(detected)
    return found


def count_objects(output: DetectorOutput, *, score_threshold: float = 0.5, use_presence: bool = False) -> list[int]:
    """How many queries of each prompt have a score strictly above the threshold."""
    scores = output.one_to_one.scores(use_presence=use_presence)
    return (scores > score_threshold).sum(dim=1).tolist()


def _keep(scores: Tensor, threshold: float, at_most: int) -> Tensor:
    """Indices of the queries that count, (K,) long."""
    kept = (scores > threshold).nonzero().squeeze(1)
    if 0 < at_most < len(kept):
        best = scores[kept].sort(descending=True, stable=True).indices[:at_most]
        kept = kept[best]
    return kept


def _masks(logits: Tensor, size: tuple[int, int], probabilities: Tensor | None) -> Tensor:
    return resize_masks(logits, size) if probabilities is None else probabilities > 0.5
