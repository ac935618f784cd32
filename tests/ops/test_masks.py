"""Masks: chunked resizing, overlap, boxes."""

import pytest
import torch
import torch.nn.functional as F

from sam3.ops.masks import (
    blank_if_mostly_lost,
    mask_iou,
    masks_to_boxes,
    resize_mask_logits,
    resize_mask_probabilities,
    resize_masks,
    strongest_per_pixel,
    without_overlap,
)


def whole_at_once(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(logits[:, None].float(), size, mode="bilinear", align_corners=False).sigmoid()[:, 0]


@pytest.mark.parametrize("size", [(37, 53), (1, 1), (96, 7), (24, 24)])
@pytest.mark.parametrize("max_bytes", [1, 37 * 53 * 4 * 2, 2**30])
def test_chunks_equal_the_whole(size: tuple[int, int], max_bytes: int) -> None:
    logits = torch.randn(5, 24, 24, generator=torch.Generator().manual_seed(0)) * 3
    expected = whole_at_once(logits, size)
    assert torch.equal(resize_masks(logits, size, max_bytes=max_bytes), expected > 0.5)
    assert torch.equal(resize_mask_probabilities(logits, size), expected)
    chunks = list(resize_mask_logits(logits, size, max_bytes=max_bytes))
    assert torch.equal(torch.cat([chunk for _, chunk in chunks]).sigmoid(), expected)
    assert [row for rows, _ in chunks for row in range(rows.start, rows.stop)] == [0, 1, 2, 3, 4]


def test_chunk_size_is_bounded_by_bytes() -> None:
    logits = torch.zeros(7, 8, 8)
    lengths = [len(chunk) for _, chunk in resize_mask_logits(logits, (10, 10), max_bytes=3 * 400 + 399)]
    assert lengths == [3, 3, 1]


def test_one_half_is_outside() -> None:
    logits = torch.tensor([0.0, 1e-3, -1e-3]).reshape(3, 1, 1).expand(3, 2, 2)
    assert resize_masks(logits, (3, 3))[:, 1, 1].tolist() == [False, True, False]


def test_inputs_are_not_changed() -> None:
    logits = torch.randn(2, 6, 6)
    before = logits.clone()
    resize_masks(logits, (6, 6))
    assert torch.equal(logits, before)


def test_no_masks() -> None:
    assert resize_masks(torch.zeros(0, 8, 8), (5, 4)).shape == (0, 5, 4)
    assert resize_mask_probabilities(torch.zeros(0, 8, 8), (5, 4)).shape == (0, 5, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_resized_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(2, 6, 6).to(dtype)
    assert torch.equal(resize_mask_probabilities(logits, (9, 11)), whole_at_once(logits.float(), (9, 11)))


def test_mask_iou_by_hand() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :2] = True  # 8 pixels
    masks[1, 1:3] = True  # 8 pixels, 4 shared
    assert torch.allclose(mask_iou(masks, masks), torch.tensor([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]]))
    assert mask_iou(masks[:0], masks).shape == (0, 3)


def test_masks_to_boxes_by_hand() -> None:
    masks = torch.zeros(4, 5, 7, dtype=torch.bool)
    masks[0, 0, 0] = True
    masks[1, 1:3, 2:6] = True
    masks[1, 4, 3] = True
    masks[2] = True
    assert masks_to_boxes(masks).tolist() == [[0, 0, 1, 1], [2, 1, 6, 5], [0, 0, 7, 5], [0, 0, 0, 0]]
    assert masks_to_boxes(masks[:0]).shape == (0, 4)


def test_each_pixel_goes_to_the_strongest():
    logits = torch.tensor([[[3.0, -1.0, 2.0]], [[1.0, 4.0, 2.0]]])
    assert strongest_per_pixel(logits).tolist() == [[[3.0, -10.0, 2.0]], [[-10.0, 4.0, -10.0]]]
    assert strongest_per_pixel(logits[:1]) is not None
    assert torch.equal(strongest_per_pixel(logits[:1]), logits[:1])
    assert strongest_per_pixel(logits[:0]).shape == (0, 1, 3)


def test_an_object_that_others_cover_is_blanked_everywhere():
    logits = torch.full((2, 4, 4), -5.0)
    logits[0] = 5.0
    logits[1, 0, :2] = 3.0
    logits[1, 3, 3] = 8.0
    blanked = blank_if_mostly_lost(logits, min_share=0.5)
    assert torch.equal(blanked[0], logits[0])
    assert (blanked[1] <= -5).all()
    assert torch.equal(blank_if_mostly_lost(logits, min_share=0.3), logits)
    assert (blank_if_mostly_lost(torch.full((1, 2, 2), -1.0), min_share=0.3) == -10).all()


def test_objects_share_no_pixel_and_need_a_score():
    masks = torch.tensor([[[True, True, False]], [[True, False, True]], [[True, True, True]]])
    apart = without_overlap(masks, torch.tensor([0.5, 0.5, 0.0]))
    assert apart.tolist() == [[[True, True, False]], [[False, False, True]], [[False, False, False]]]
    assert without_overlap(masks[:0], torch.zeros(0)).shape == (0, 1, 3)
