"""Selecting objects and changing all boxes of a sample."""

import torch

from sam3.data.samples import Query
from tests.data.transforms.samples import make_sample

BOXES = [[0, 0, 4, 4], [1, 1, 6, 3]]


def test_select_keeps_order_and_masks():
    objects = make_sample(BOXES, crowds=[1]).objects
    swapped = objects.select([1, 0, 1])
    assert swapped.boxes.tolist() == [BOXES[1], BOXES[0], BOXES[1]]
    assert swapped.is_crowd.tolist() == [True, False, True]
    assert swapped.masks == [objects.masks[1], objects.masks[0], objects.masks[1]]
    assert len(objects.select([])) == 0
    assert objects.select([]).boxes.shape == (0, 4)
    assert make_sample(BOXES, masks=None).objects.select([0]).masks is None


def test_map_boxes_reaches_targets_and_prompts():
    query = Query("a", 1, (0,), input_boxes=torch.tensor([[1.0, 2, 3, 4]]), input_box_labels=torch.ones(1).long())
    sample = make_sample(BOXES, [query, Query("b", 2, ())])
    doubled = sample.map_boxes(lambda boxes: boxes * 2)
    assert doubled.objects.boxes.tolist() == [[0, 0, 8, 8], [2, 2, 12, 6]]
    assert doubled.queries[0].input_boxes.tolist() == [[2, 4, 6, 8]]
    assert doubled.queries[1].input_boxes.shape == (0, 4)
    assert sample.objects.boxes.tolist() == BOXES


def test_size_of_a_picture_and_of_a_tensor():
    sample = make_sample([], size=(20, 30))
    assert sample.size == (20, 30)
    assert sample.map_boxes(lambda boxes: boxes).size == (20, 30)
