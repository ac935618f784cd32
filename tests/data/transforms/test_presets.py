"""The shipped pipelines as a whole."""

import random

import pytest
import torch

from sam3.data.samples import Query
from sam3.data.transforms.compose import Compose
from sam3.data.transforms.presets import finetune, square_eval
from tests.data.transforms.samples import make_sample

BOXES = [[2, 2, 12, 10], [5, 5, 9, 9], [10, 3, 20, 18], [0, 0, 30, 20]]
QUERIES = [Query("a", 1, (0, 1)), Query("b", 2, (2, 3))]


def _sample():
    return make_sample(BOXES, QUERIES, crowds=[3])


@pytest.mark.parametrize("resolution", [28, 112, 300])
def test_training_pads_and_keeps_boxes_on_their_masks(resolution):
    for seed in range(10):
        sample = finetune(resolution)(_sample(), random.Random(seed))
        assert sample.image.shape == (3, resolution, resolution)
        assert [query.object_indices for query in sample.queries] == [(0, 1), (2,)]
        for box, mask in zip(sample.objects.boxes, sample.objects.masks, strict=True):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            center = torch.stack([columns.float().mean() + 0.5, rows.float().mean() + 0.5])
            assert torch.allclose(box[:2] * resolution, center, atol=1.0)


def test_training_is_decided_by_its_generator():
    first, second, other = (finetune(56)(_sample(), random.Random(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.objects.boxes, second.objects.boxes)
    assert not torch.equal(first.objects.boxes, other.objects.boxes)


def test_training_options():
    sample = finetune(56, max_ann_per_img=1)(_sample(), random.Random(0))
    assert [query.phrase for query in sample.queries] == ["b"]
    visual = finetune(56, visual_probability=1.0)(_sample(), random.Random(0))
    assert [query.phrase for query in visual.queries] == ["visual", "visual"]
    assert 0 < visual.queries[1].input_boxes.min() < visual.queries[1].input_boxes.max() < 1
    plain = finetune(56)(_sample(), random.Random(0)).objects.boxes
    flips = {torch.equal(finetune(56, hflip_prob=1.0)(_sample(), random.Random(0)).objects.boxes, plain)}
    assert flips == {False}


def test_validation_leaves_nothing_out_and_nothing_to_chance():
    first, second = (square_eval(56)(_sample(), random.Random(seed)) for seed in (0, 1))
    assert torch.equal(first.image, second.image)
    assert first.image.shape == (3, 56, 56)
    assert [query.object_indices for query in first.queries] == [(0, 1), (2, 3)]
    assert first.objects.boxes[3].tolist() == pytest.approx([0.5, 0.5, 1.0, 1.0])
    assert all(isinstance(mask, torch.Tensor) for mask in first.objects.masks)  # masks are decoded without being asked


def test_compose_passes_one_generator_through():
    drawn = []
    draw = lambda sample, rng: drawn.append(rng.random()) or sample  # noqa: E731
    Compose([draw, Compose([draw])])(_sample(), random.Random(4))
    rng = random.Random(4)
    assert drawn == [rng.random(), rng.random()]
