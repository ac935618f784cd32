"""Layout of a batch, its padding, and that parts of a batch are batches of the parts."""

import random
from dataclasses import fields, is_dataclass

import pytest
import torch
from torch import Tensor

from sam3.data.collate import collate, split_batch, split_prompts
from sam3.data.samples import Query
from sam3.data.transforms.geometric import Normalize
from sam3.errors import DataError
from tests.data.transforms.samples import make_sample

FINISH = Normalize((0.5,) * 3, (0.5,) * 3)
BOXES = [[2, 2, 12, 10], [5, 5, 9, 9], [10, 3, 20, 18]]


def _sample(boxes=BOXES, queries=None, **options):
    return FINISH(make_sample(boxes, queries, **options), random.Random(0))


def _example(phrase, *boxes):
    return Query(
        phrase, 5, (), input_boxes=torch.tensor(boxes), input_box_labels=torch.arange(len(boxes), 0, -1).long()
    )


@pytest.fixture
def samples():
    return [
        _sample(queries=[Query("cat", 3, (0, 2)), Query("dog", 1, ())]),
        _sample(queries=[Query("dog", 1, (1,)), Query("fish", 9, (), is_exhaustive=False)], masks=[None] * 3),
        _sample([], [_example("fish", [1.0, 2, 3, 4], [2.0, 3, 4, 5]), Query("bird", 4, ())]),
    ]


def _assert_equal(first, second):
    assert type(first) is type(second)
    if is_dataclass(first):
        for f in fields(first):
            _assert_equal(getattr(first, f.name), getattr(second, f.name))
    elif isinstance(first, Tensor):
        assert first.dtype == second.dtype
        assert first.shape == second.shape
        assert torch.equal(first, second)
    else:
        assert first == second


def test_prompts_point_to_images_and_phrases(samples):
    batch = collate(samples)
    assert (len(batch), batch.num_prompts) == (3, 6)
    assert batch.images.shape == (3, 3, 20, 30)
    assert batch.phrases == ["cat", "dog", "fish", "bird"]
    assert batch.phrase_index.tolist() == [0, 1, 1, 2, 2, 3]
    assert batch.image_index.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.origin.category_ids.tolist() == [3, 1, 1, 9, 5, 4]
    assert batch.origin.image_ids.tolist() == [7] * 6
    assert batch.origin.original_sizes.tolist() == [[20, 30]] * 6
    assert batch.origin.file_names == ["ü.png"] * 3


def test_targets_are_packed_and_padded(samples):
    targets = collate(samples).targets
    assert targets.num_boxes.tolist() == [2, 0, 1, 0, 0, 0]
    expected = torch.stack([samples[0].objects.boxes[0], samples[0].objects.boxes[2], samples[1].objects.boxes[1]])
    assert torch.equal(targets.boxes, expected)
    assert targets.boxes_padded.shape == (6, 2, 4)
    assert torch.equal(targets.boxes_padded[2, 0], expected[2])
    assert targets.boxes_padded[2, 1].tolist() == [0] * 4
    assert targets.object_ids.tolist() == [0, 2, 1]
    assert targets.object_ids_padded.tolist() == [[0, 2], [-1, -1], [1, -1], [-1, -1], [-1, -1], [-1, -1]]
    assert targets.is_exhaustive.tolist() == [True, True, True, False, True, True]


def test_objects_without_mask_have_an_invalid_row():
    full = torch.ones(20, 30, dtype=torch.bool)
    targets = collate([_sample(BOXES[:2], [Query("a", 1, (1, 0))], masks=[None, full])]).targets
    assert targets.masks.dtype == torch.bool
    assert targets.masks.sum((1, 2)).tolist() == [600, 0]
    assert targets.mask_is_valid.tolist() == [True, False]


def test_example_boxes_are_padded_on_the_right(samples):
    prompt = collate(samples).prompt
    assert prompt.boxes.shape == (6, 2, 4)
    assert prompt.box_labels.tolist() == [[0, 0]] * 4 + [[2, 1], [0, 0]]
    assert prompt.box_mask.tolist() == [[True, True]] * 4 + [[False, False], [True, True]]
    assert prompt.points.shape == (6, 0, 2)


def test_a_batch_of_negatives_only():
    batch = collate([_sample([], [Query("a", 1, ()), Query("b", 2, ())])])
    assert batch.targets.boxes.shape == (0, 4)
    assert batch.targets.boxes_padded.shape == (2, 0, 4)
    assert batch.targets.object_ids.dtype == torch.long
    assert batch.targets.object_ids_padded.shape == (2, 0)
    assert batch.targets.masks.shape == (0, 20, 30)
    assert batch.targets.mask_is_valid.shape == (0,)
    assert batch.prompt.boxes.shape == (2, 0, 4)


def test_without_masks_in_a_sample_there_are_none():
    targets = collate([_sample([]), _sample(masks=None)]).targets
    assert targets.masks is None
    assert targets.mask_is_valid is None


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_parts_equal_the_collation_of_their_samples(samples, parts):
    result = split_batch(collate(samples), parts)
    expected = [collate(samples[index::parts]) for index in range(parts) if samples[index::parts]]
    assert len(result) == len(expected) == min(parts, 3)
    for part, own in zip(result, expected, strict=True):
        _assert_equal(part, own)


def test_parts_without_masks():
    result = split_batch(collate([_sample(masks=None), _sample([], masks=None)]), 2)
    assert [part.targets.masks for part in result] == [None, None]


def test_what_cannot_be_collated():
    with pytest.raises(DataError, match="at least one sample"):
        collate([])
    with pytest.raises(DataError, match="'ü.png' is not a tensor yet"):
        collate([make_sample([])])
    with pytest.raises(DataError, match=r"must have one size, got \[\(20, 30\), \(30, 20\)\]"):
        collate([_sample([]), _sample([], size=(30, 20))])
    with pytest.raises(ValueError, match="at least 1 part"):
        split_batch(collate([_sample([])]), 0)


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 6), (2, [2] * 3), (4, [3, 3]), (5, [3, 3]), (6, [6]), (9, [6])])
def test_prompts_are_split_evenly_and_keep_all_images(samples, limit, sizes):
    batch = collate(samples)
    parts = split_prompts(batch, limit)
    assert [part.num_prompts for part in parts] == sizes
    assert all(part.images is batch.images for part in parts)
    assert torch.cat([part.image_index for part in parts]).tolist() == batch.image_index.tolist()
    asked = [part.phrases[i] for part in parts for i in part.phrase_index.tolist()]
    assert asked == [batch.phrases[i] for i in batch.phrase_index.tolist()]
    assert torch.equal(torch.cat([part.targets.boxes for part in parts]), batch.targets.boxes)
    assert torch.equal(torch.cat([part.targets.num_boxes for part in parts]), batch.targets.num_boxes)
    assert all(part.targets.boxes_padded.shape[1] == max(part.targets.num_boxes.tolist()) for part in parts)
    assert torch.equal(torch.cat([part.origin.category_ids for part in parts]), batch.origin.category_ids)
    own = batch.targets.masks.untyped_storage().data_ptr()
    assert all(part.targets.masks.untyped_storage().data_ptr() == own for part in parts if len(part.targets.boxes))
    with pytest.raises(ValueError, match="at least 1 prompt"):
        split_prompts(batch, 0)
