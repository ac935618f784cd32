"""Raw outputs to objects: scores, thresholds, order, pixels."""

import pytest
import torch
from torch import Tensor

from sam3.errors import DataError
from sam3.model.postprocess import detections
from sam3.structures import DetectorOutput, QueryPredictions

SCORES = torch.tensor([[0.5, 0.9, 0.2, 0.9], [0.1, 0.2, 0.3, 0.4]])
BOXES = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
MASKS = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
PRESENCE = torch.tensor([[1.0], [0.5]])
SIZES = [(10, 20), (7, 3)]


def output(*, presence: Tensor | None = PRESENCE, masks: Tensor | None = MASKS) -> DetectorOutput:
    predictions = QueryPredictions(
        logits=SCORES.logit()[..., None],
        boxes=torch.zeros(2, 4, 4),
        boxes_xyxy=BOXES,
        presence_logits=None if presence is None else presence.logit(),
        masks=masks,
    )
    return DetectorOutput(one_to_one=predictions)


def test_score_is_class_times_presence_in_query_order() -> None:
    first, second = detections(output(), original_sizes=SIZES, score_threshold=0.14)
    assert torch.allclose(first.scores, torch.tensor([0.5, 0.9, 0.2, 0.9]))
    assert torch.allclose(second.scores, torch.tensor([0.15, 0.2]))


def test_threshold_is_strict_and_a_negative_one_keeps_all() -> None:
    exactly = output(presence=None)
    assert len(detections(exactly, original_sizes=SIZES, score_threshold=SCORES[0, 0].logit().sigmoid().item())[0]) == 2
    assert [len(found) for found in detections(output(), original_sizes=SIZES, score_threshold=-1.0)] == [4, 4]
    certain_no = output(presence=torch.zeros(2, 1))
    assert [len(found) for found in detections(certain_no, original_sizes=SIZES, score_threshold=-1.0)] == [4, 4]


def test_presence_can_be_left_out() -> None:
    found = detections(output(), original_sizes=SIZES, score_threshold=0.35, use_presence=False)
    assert torch.allclose(found[1].scores, torch.tensor([0.4]))


def test_boxes_are_scaled_and_not_clipped() -> None:
    given = output()
    given.one_to_one.boxes_xyxy = BOXES * 3 - 1
    found = detections(given, original_sizes=SIZES, score_threshold=-1.0)
    for prompt, (height, width) in enumerate(SIZES):
        scale = torch.tensor([width, height, width, height])
        assert torch.equal(found[prompt].boxes, given.one_to_one.boxes_xyxy[prompt] * scale)


def test_best_are_kept_and_sorted_only_if_too_many() -> None:
    many = detections(output(), original_sizes=SIZES, score_threshold=-1.0, max_detections=3)[0]
    assert torch.allclose(many.scores, torch.tensor([0.9, 0.9, 0.5]))
    assert torch.equal(many.boxes[0], BOXES[0, 1] * torch.tensor([20, 10, 20, 10]))  # equal scores: query order
    few = detections(output(), original_sizes=SIZES, score_threshold=-1.0, max_detections=4)[0]
    assert torch.allclose(few.scores, SCORES[0])


def test_masks_belong_to_their_queries() -> None:
    first = detections(output(), original_sizes=SIZES, score_threshold=0.3, max_detections=2)[0]
    resized = torch.nn.functional.interpolate(MASKS[:1, [1, 3]], (10, 20), mode="bilinear").sigmoid()[0]
    assert torch.equal(first.masks, resized > 0.5)
    assert first.mask_probs is None
    with_probs = detections(output(), original_sizes=SIZES, score_threshold=0.3, max_detections=2, with_mask_probs=True)
    assert torch.equal(with_probs[0].mask_probs, resized)
    assert torch.equal(with_probs[0].masks, first.masks)


def test_probabilities_are_left_out_where_they_would_be_too_large() -> None:
    found = detections(
        output(), original_sizes=SIZES, score_threshold=-1.0, with_mask_probs=True, max_mask_prob_bytes=4 * 4 * 7 * 3
    )
    assert [one.mask_probs is None for one in found] == [True, False]
    assert all(one.masks is not None for one in found)


def test_masks_are_optional() -> None:
    for found in (
        detections(output(), original_sizes=SIZES, score_threshold=-1.0, with_masks=False),
        detections(output(masks=None), original_sizes=SIZES, score_threshold=-1.0, with_mask_probs=True),
    ):
        assert all(one.masks is None and one.mask_probs is None and len(one) == 4 for one in found)


def test_nothing_found() -> None:
    found = detections(output(), original_sizes=SIZES, score_threshold=0.95, with_mask_probs=True)[0]
    assert found.boxes.shape == (0, 4)
    assert found.masks.shape == found.mask_probs.shape == (0, 10, 20)


def test_half_precision_outputs_become_float32() -> None:
    given = output()
    predictions = given.one_to_one
    for name in ("logits", "boxes_xyxy", "presence_logits", "masks"):
        setattr(predictions, name, getattr(predictions, name).bfloat16())
    found = detections(given, original_sizes=SIZES, score_threshold=-1.0, with_mask_probs=True)[0]
    assert found.boxes.dtype == found.scores.dtype == found.mask_probs.dtype == torch.float32
    assert torch.allclose(found.scores, SCORES[0], atol=5e-3)


def test_sizes_must_match_the_prompts() -> None:
    with pytest.raises(DataError, match="2 prompts need as many original sizes, got 1"):
        detections(output(), original_sizes=SIZES[:1], score_threshold=0.5)
