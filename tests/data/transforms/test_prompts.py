"""Example boxes: taken from the targets, moved without moving the targets."""

import random

import pytest
import torch

from sam3.data.samples import Query
from sam3.data.transforms.prompts import JitterInputBoxes, TextToVisual, jitter_boxes
from tests.data.transforms.samples import make_sample

BOXES = [[2, 2, 12, 10], [5, 5, 9, 9], [10, 3, 20, 18]]


def _sample():
    return make_sample(BOXES, [Query("a", 1, (0, 1)), Query("b", 2, (2,)), Query("c", 3, ())])


def test_jitter_is_limited_clipped_and_undone_where_nothing_is_left():
    boxes = torch.tensor([[2.0, 2, 12, 10], [2, 2, 12, 10], [2, 2, 12, 10]])
    noise = torch.tensor([[1.0, -1, 1, 1], [-9, -9, 9, 9], [9, 0, -9, 0]])
    moved = jitter_boxes(boxes, noise, size=(20, 30), std=0.1, max_shift=8)
    assert moved[0].tolist() == pytest.approx([3.0, 1.2, 13.0, 10.8])
    assert moved[1].tolist() == pytest.approx([0, 0, 20, 17.2])
    assert moved[2].tolist() == boxes[2].tolist()  # the sides would have crossed


def test_jitter_without_boxes_draws_nothing():
    rng = random.Random(3)
    result = JitterInputBoxes()(_sample(), rng)
    assert rng.random() == random.Random(3).random()
    assert all(query.input_boxes.shape == (0, 4) for query in result.queries)


def test_visual_prompts_take_a_box_of_the_query_and_spare_negatives():
    sample = _sample()
    result = TextToVisual(1.0)(sample, random.Random(0))
    assert [query.phrase for query in result.queries] == ["visual", "visual", "c"]
    assert result.queries[0].input_boxes.tolist()[0] in BOXES[:2]
    assert result.queries[1].input_boxes.tolist() == [BOXES[2]]
    assert result.queries[1].input_box_labels.tolist() == [1]
    assert len(result.queries[2].input_boxes) == 0
    assert [query.phrase for query in TextToVisual(1.0, keep_text=True)(sample, random.Random(0)).queries] == [
        "a",
        "b",
        "c",
    ]
    assert TextToVisual(0.0)(sample, random.Random(0)).queries == sample.queries


def test_jitter_of_a_visual_prompt_does_not_move_the_target():
    rng = random.Random(1)
    result = JitterInputBoxes(std=0.2)(TextToVisual(1.0)(_sample(), rng), rng)
    assert result.objects.boxes.tolist() == BOXES
    assert result.queries[1].input_boxes.tolist() != [BOXES[2]]
    assert (result.queries[1].input_boxes - torch.tensor([BOXES[2]])).abs().max() < 10
