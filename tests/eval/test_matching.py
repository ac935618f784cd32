import numpy as np
import pytest

from sam3.eval import matching
from sam3.eval.cgf1 import Pair, judge
from sam3.eval.matching import assign, match, similarity
from sam3.ops import rle


def mask(*pixels, size=(4, 5)):
    array = np.zeros(size, dtype=bool)
    for row, column in pixels:
        array[row, column] = True
    return rle.encode(array)


def test_masks_and_boxes_by_hand():
    assert similarity([mask((0, 0), (0, 1))], [mask((0, 1), (0, 2)), mask()]).tolist() == [[1 / 3, 0]]
    assert similarity(np.array([[0.0, 0, 2, 1]]), np.array([[1.0, 0, 2, 1], [0, 0, 0, 0]])).tolist() == [[1 / 3, 0]]


def test_masks_of_other_sizes_are_minus_one_where_boxes_overlap():
    assert similarity([mask((0, 0))], [mask((0, 0), size=(9, 9)), mask((8, 8), size=(9, 9))]).tolist() == [[-1, 0]]


@pytest.mark.parametrize(("predictions", "objects"), [(0, 0), (0, 2), (3, 0)])
def test_nothing_on_a_side(predictions, objects):
    boxes = np.zeros((predictions, 4)), np.zeros((objects, 4))
    assert similarity(*boxes).shape == (predictions, objects)
    assert len(match(*boxes).ious) == 0
    assert similarity([mask()] * predictions, [mask()] * objects).shape == (predictions, objects)


def test_the_assignment_is_one_to_one_with_the_largest_sum():
    found = assign(np.array([[0.9, 0.8], [0.8, 0.1], [0.0, 0.0]]))
    assert list(zip(found.predictions, found.objects, strict=True)) == [(0, 1), (1, 0)]
    assert found.ious.tolist() == [0.8, 0.8]
    # Two pairs would reach 0.5, but the sum is larger with one.
    assert assign(np.array([[0.95, 0.5], [0.5, 0.1]])).ious.tolist() == [0.95, 0.1]


@pytest.mark.parametrize("seed", range(5))
def test_many_predictions_in_bounded_memory_give_the_same_sum(seed, monkeypatch):
    generator = np.random.default_rng(seed)
    predictions, objects = generator.random((300, 4)), generator.random((6, 4))
    everything = match(predictions, objects)
    monkeypatch.setattr(matching, "_MAX_ENTRIES", 60)
    monkeypatch.setattr(matching, "_ROWS_AT_ONCE", 7)
    bounded = match(predictions, objects)
    assert bounded.ious.sum() == pytest.approx(everything.ious.sum(), abs=1e-12)
    picked = similarity(predictions, objects)[bounded.predictions, bounded.objects]
    assert picked.tolist() == bounded.ious.tolist()


def test_a_million_predictions_of_one_pair():
    objects = np.array([[10.0 * number, 0, 8, 8] for number in range(8)])
    predictions = np.zeros((1_000_000, 4))
    predictions[123_456::100_000][: len(objects)] = objects + [0, 0, 0, 2]
    judged = judge(Pair(1, predictions, np.ones(len(predictions)), [objects, objects[:0]])).judgement
    assert (judged.num_predictions, judged.num_objects) == (1_000_000, 8)
    assert judged.ious.tolist() == [0.8] * 8
    assert judged.false_positives().tolist() == [999_992] * 7 + [1_000_000] * 3
