"""The comparison of two sets of weights on a sample."""

import numpy as np
import torch

from sam3.export.sample_check import Differences, SampleOutputs, sample_picture


def test_differences_are_those_of_the_best_queries():
    scores = torch.cat([torch.full((10,), 0.9), torch.zeros(5)])
    boxes, masks = torch.zeros(15, 4), torch.zeros(15, 2, 2)
    other_boxes, other_masks = boxes.clone(), masks.clone()
    other_boxes[14] = 1  # a hopeless query
    other_boxes[3, 2] = 0.25
    other_masks[0, 0, 0] = 1
    other_scores = scores.clone()
    other_scores[12] = 0.125
    differences = SampleOutputs(scores, boxes, masks).differences(SampleOutputs(other_scores, other_boxes, other_masks))
    assert differences == Differences(scores=0.125, boxes=0.25, masks=0.25)
    assert differences.largest == 0.25


def test_values_that_are_not_finite_count_as_the_largest_difference():
    good = SampleOutputs(torch.zeros(3), torch.zeros(3, 4), None)
    bad = SampleOutputs(torch.tensor([0.0, float("nan"), 0.0]), torch.zeros(3, 4), None)
    assert good.differences(bad) == Differences(scores=1.0, boxes=0.0, masks=0.0)


def test_the_sample_is_always_the_same():
    np.testing.assert_array_equal(np.asarray(sample_picture()), np.asarray(sample_picture()))
