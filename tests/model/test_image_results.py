"""Objects of several prompts and passes, joined by picture."""

import numpy as np
import pytest
import torch

from sam3.model.image_results import ImagePostprocessor, Stage
from sam3.model.postprocess import count_objects, detections
from sam3.ops import rle
from tests.model.test_postprocess import SIZES, output


def stages(**settings):
    """Two passes over pictures 7 and 8; the second pass has picture 8 twice."""
    return [Stage(output(), [7, 8], SIZES, **settings), Stage(output(), [8, 8], [SIZES[1]] * 2, **settings)]


def test_results_of_one_picture_are_joined_in_order():
    found = ImagePostprocessor().collect(stages())
    assert list(found) == [7, 8]
    assert [len(objects) for objects in found.values()] == [4, 12]
    single = detections(output(), original_sizes=SIZES, score_threshold=-1)
    assert found[7].scores.tolist() == single[0].scores.tolist()
    assert found[8].scores[:8].tolist() == [*single[1].scores.tolist(), *single[0].scores.tolist()]


def test_boxes_are_shares_of_the_picture_or_pixels():
    shares, pixels = (ImagePostprocessor(pixel_boxes=flag).collect(stages())[7].boxes for flag in (False, True))
    assert torch.allclose(shares * torch.tensor([20, 10, 20, 10]), pixels)
    assert torch.equal(shares, output().one_to_one.boxes_xyxy[0])


def test_labels_are_one_or_the_category():
    assert ImagePostprocessor().collect(stages())[8].labels.tolist() == [1] * 12
    labelled = ImagePostprocessor().collect(stages(category_ids=[3, 5]))
    assert labelled[8].labels.tolist() == [5] * 4 + [3] * 4 + [5] * 4


@pytest.mark.parametrize("compressed", [False, True])
def test_the_best_of_a_picture_keep_their_masks(compressed):
    settings = {"with_masks": True, "pixel_masks": True, "compressed_masks": compressed}
    everything = ImagePostprocessor(**settings).collect(stages())[8]
    best = ImagePostprocessor(max_detections=3, **settings).collect(stages())[8]
    order = everything.scores.sort(descending=True, stable=True).indices[:3]
    assert best.scores.tolist() == everything.scores[order].tolist()
    for mask, row in zip(best.masks, order.tolist(), strict=True):
        expected = everything.masks[row]
        assert mask == expected if compressed else torch.equal(mask, expected)
    arrays = [rle.decode(mask) if compressed else np.asarray(mask) for mask in best.masks]
    assert all(mask.shape == SIZES[1] for mask in arrays)


def test_a_threshold_that_nothing_reaches_leaves_empty_results():
    settings = {"score_threshold": 0.9999, "with_masks": True, "pixel_masks": True}
    found = ImagePostprocessor(**settings, compressed_masks=True).collect(stages())
    assert {key: (len(value), value.masks) for key, value in found.items()} == {7: (0, []), 8: (0, [])}
    assert ImagePostprocessor(**settings).collect(stages())[7].masks.shape == (0, *SIZES[0])


def test_masks_are_one_pixel_unless_wanted_larger():
    assert ImagePostprocessor(with_masks=True).collect(stages())[7].masks.shape == (4, 1, 1)
    assert ImagePostprocessor().collect(stages())[7].masks is None


def test_counting_ignores_presence_unless_asked():
    assert count_objects(output(), score_threshold=0.25) == [3, 2]
    assert count_objects(output(), score_threshold=0.18, use_presence=True) == [4, 1]
