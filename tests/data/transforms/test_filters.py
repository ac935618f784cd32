"""What is dropped, what stays, and that indices follow."""

import random
from dataclasses import replace

import pytest
import torch

from sam3.data.samples import Query, UnusableSample
from sam3.data.transforms.filters import (
    RemoveCrowdedQueries,
    RemoveCrowds,
    RemoveEmptyObjects,
    SampleNegatives,
    keep_objects,
    keep_queries,
)
from tests.data.transforms.samples import make_sample

BOXES = [[0, 0, 5, 5], [5, 5, 9, 9], [1, 1, 1, 8], [2, 2, 6, 6]]
QUERIES = [Query("a", 1, (0, 1)), Query("b", 2, (2, 3)), Query("c", 3, ())]


@pytest.fixture
def sample():
    return make_sample(BOXES, QUERIES, crowds=[0, 1])


def _indices(sample):
    return [query.object_indices for query in sample.queries]


def test_a_query_of_crowds_alone_goes_and_does_not_become_a_negative(sample):
    result = RemoveCrowds()(sample, random.Random(0))
    assert [query.phrase for query in result.queries] == ["b", "c"]
    assert _indices(result) == [(0, 1), ()]
    assert result.objects.boxes.tolist() == BOXES[2:]
    assert result.objects.masks == sample.objects.masks[2:]
    assert _indices(sample) == [(0, 1), (2, 3), ()]


def test_a_query_that_loses_some_objects_is_no_longer_exhaustive(sample):
    result = RemoveEmptyObjects()(sample, random.Random(0))
    assert _indices(result) == [(0, 1), (2,), ()]
    assert [query.is_exhaustive for query in result.queries] == [True, False, True]
    assert len(result.objects) == 3


def test_an_object_of_one_pixel_on_a_large_photo_stays():
    sample = make_sample([[3, 3, 4, 4]], size=(20, 30))
    objects = replace(sample.objects, areas=torch.tensor([1e-12]), masks=[torch.zeros(20, 30, dtype=torch.bool)])
    objects.masks[0][3, 3] = True
    tiny = replace(sample, objects=objects)
    assert _indices(RemoveEmptyObjects()(tiny, random.Random(0))) == [(0,)]
    objects.masks[0][3, 3] = False
    with pytest.raises(UnusableSample):  # nothing to see: not a negative, either
        RemoveEmptyObjects()(tiny, random.Random(0))


def test_crowded_queries_go_with_their_objects(sample):
    result = RemoveCrowdedQueries(1)(sample, random.Random(0))
    assert [query.phrase for query in result.queries] == ["c"]
    assert len(result.objects) == 0
    assert len(RemoveCrowdedQueries(2)(sample, random.Random(0)).queries) == 3


def test_no_query_left_is_an_unusable_sample(sample):
    with pytest.raises(UnusableSample, match="ü.png: no query is left"):
        keep_queries(sample, [])


def test_an_object_of_two_queries_stays_with_the_other():
    shared = make_sample(BOXES[:2], [Query("a", 1, (0, 1)), Query("b", 2, (1,))])
    result = keep_queries(shared, shared.queries[1:])
    assert _indices(result) == [(0,)]
    assert result.objects.boxes.tolist() == BOXES[1:2]


def test_no_objects_and_no_masks():
    assert len(keep_objects(make_sample([]), []).objects) == 0
    result = keep_objects(make_sample(BOXES, QUERIES, masks=None), [True, False, False, True])
    assert result.objects.masks is None
    assert torch.equal(result.objects.boxes, torch.tensor(BOXES).float()[[0, 3]])


def test_negatives_are_sampled_and_positives_stay():
    absent = [Query(name, 3 + index, ()) for index, name in enumerate("cdef")]
    sample = make_sample(BOXES, [*QUERIES[:2], *absent])
    drawn = [[q.phrase for q in SampleNegatives(2)(sample, random.Random(seed)).queries] for seed in range(40)]
    assert all(phrases[:2] == ["a", "b"] and len(phrases) == 4 for phrases in drawn)
    assert {phrase for phrases in drawn for phrase in phrases[2:]} == set("cdef")
    assert len(SampleNegatives(9)(sample, random.Random(0)).queries) == 6
    assert [q.phrase for q in SampleNegatives(0)(sample, random.Random(0)).queries] == ["a", "b"]


def test_an_image_without_objects_needs_a_negative():
    empty = make_sample([], [Query("a", 1, ())])
    assert len(SampleNegatives(1)(empty, random.Random(0)).queries) == 1
    with pytest.raises(UnusableSample):
        SampleNegatives(0)(empty, random.Random(0))
