"""The made-up batch and the made-up matches."""

import torch

from sam3.data.collate import split_batch
from sam3.planning.plan.stand_ins import BatchShape, StandInMatcher, make_batch, tensors_of
from sam3.structures import QueryPredictions
from sam3.train.matcher import HungarianMatcher, OneToManyMatcher

SHAPE = BatchShape(images=2, resolution=28, phrases=3, objects=4, with_masks=True)


def predictions(prompts: int, queries: int) -> QueryPredictions:
    boxes = torch.rand(prompts, queries, 4)
    return QueryPredictions(torch.zeros(prompts, queries, 1), boxes, boxes)


def test_objects_are_spread_over_the_phrases():
    batch = make_batch(SHAPE, None)
    assert batch.targets.num_boxes.tolist() == [2, 1, 1, 2, 1, 1]
    assert batch.image_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.targets.masks.shape == (8, 28, 28)
    assert batch.targets.object_ids_padded[1].tolist() == [0, -1]
    first, second = split_batch(batch, 2)
    assert (first.num_prompts, len(second.targets.boxes)) == (3, 4)


def test_an_image_without_objects():
    batch = make_batch(BatchShape(1, 28, 2, 0, with_masks=False), None)
    assert batch.targets.boxes.shape == (0, 4)
    assert batch.targets.masks is None
    assert len(StandInMatcher(HungarianMatcher(), 1)(predictions(2, 5), batch.targets)) == 0


def test_every_object_gets_its_queries():
    targets = make_batch(SHAPE, None).targets
    one = StandInMatcher(HungarianMatcher(), 1)(predictions(6, 5), targets)
    assert one.target.tolist() == list(range(8))
    assert len({(p, q) for p, q in zip(one.prompt.tolist(), one.query.tolist(), strict=True)}) == 8
    many = StandInMatcher(OneToManyMatcher(topk=4), 4)(predictions(6, 50), targets)
    assert torch.bincount(many.target).tolist() == [4] * 8
    assert (targets.num_boxes[many.prompt] > 0).all()


def test_more_objects_than_queries_leave_objects_out():
    targets = make_batch(BatchShape(1, 28, 1, 9, with_masks=False), None).targets
    assert len(StandInMatcher(HungarianMatcher(), 1)(predictions(1, 5), targets)) == 5


def test_all_tensors_of_a_batch_are_found():
    batch = make_batch(SHAPE, None)
    found = tensors_of(batch)
    assert any(tensor is batch.images for tensor in found)
    assert any(tensor is batch.targets.masks for tensor in found)
