"""Overlaps of tracks, tracklet IoU and the assignment in every frame."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sam3.data.masklets import read_masks
from sam3.eval.video_matching import assign_frames, box_overlaps, mask_ious, mask_overlaps, ratio, tracklet_iou
from sam3.ops import rle
from tests.eval import video_definition

HEIGHT, WIDTH, FRAMES = 5, 7, 3
masks = arrays(bool, (HEIGHT, WIDTH), elements=st.booleans())
tracks = st.lists(st.one_of(st.none(), masks), min_size=FRAMES, max_size=FRAMES)
boxes = arrays(np.int64, (FRAMES, 4), elements=st.integers(0, 9))


def compressed(frames):
    values = [None if frame is None else rle.encode(frame) for frame in frames]
    return read_masks({"segmentations": values}, "test", (HEIGHT, WIDTH))


def pixels(frames):
    return [set() if frame is None else set(map(tuple, np.argwhere(frame).tolist())) for frame in frames]


def box_pixels(track):
    return [{(u, v) for u in range(x, x + w) for v in range(y, y + h)} for x, y, w, h in track.tolist()]


@settings(max_examples=60, deadline=None)
@given(st.lists(tracks, min_size=1, max_size=3), st.lists(tracks, min_size=1, max_size=3))
def test_tracklet_iou_of_masks_equals_counting_pixels(truths, predictions):
    first, second = ([compressed(track) for track in side] for side in (truths, predictions))
    areas = [np.array([track.areas for track in side]) for side in (first, second)]
    found = tracklet_iou(*mask_overlaps(mask_ious(first, second), *areas))
    expected = [[video_definition.tracklet_iou(pixels(a), pixels(b)) for b in predictions] for a in truths]
    assert found.tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=3), st.lists(boxes, min_size=1, max_size=3))
def test_tracklet_iou_of_boxes_equals_counting_pixels(truths, predictions):
    found = tracklet_iou(*box_overlaps(*(np.array(side, dtype=np.float64) for side in (truths, predictions))))
    expected = [[video_definition.tracklet_iou(box_pixels(a), box_pixels(b)) for b in predictions] for a in truths]
    assert found.tolist() == expected


def test_sums_of_large_masks_are_exact():
    """Four frames of 8000 x 8000 pixels exceed 32 bits in their squares, and single pixels still count."""
    full = {"size": [8000, 8000], "counts": [0, 64_000_000]}
    less = {"size": [8000, 8000], "counts": [1, 63_999_999]}
    first, second = (read_masks({"segmentations": [value] * 100}, "test") for value in (full, less))
    inter, union = mask_overlaps(mask_ious([first], [second]), first.areas[None], second.areas[None])
    assert (inter.sum(), union.sum()) == (6_399_999_900, 6_400_000_000)


def test_no_tracks_on_one_side():
    one = compressed([np.ones((HEIGHT, WIDTH), bool)] * FRAMES)
    assert mask_ious([one], []).shape == (FRAMES, 1, 0)
    assert mask_ious([], [one]).shape == (FRAMES, 0, 1)
    assert tracklet_iou(*box_overlaps(np.zeros((0, FRAMES, 4)), np.zeros((2, FRAMES, 4)))).shape == (0, 2)


def test_boxes_without_area_overlap_nothing_in_a_frame():
    point = np.array([[[3.0, 3.0, 0.0, 4.0]]])
    assert ratio(*box_overlaps(point, point)).tolist() == [[[0.0]]]


def test_an_iou_of_seven_tenths_is_that_in_float64():
    first, second = np.array([[[0.0, 0.0, 10.0, 1.0]]]), np.array([[[0.0, 0.0, 7.0, 1.0]]])
    assert ratio(*box_overlaps(first, second)).item() == 0.7


@st.composite
def frames_of_scores(draw):
    frames, truths, tracks = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth_present, prediction_present = (
        generator.random((frames, truths)) < 0.8,
        generator.random((frames, tracks)) < 0.8,
    )
    shape = (frames, truths, tracks)
    scores = generator.random(shape) * (generator.random(shape) < draw(st.sampled_from([0.3, 0.6, 1.0])))
    return scores * (truth_present[:, :, None] & prediction_present[:, None]), truth_present, prediction_present


@settings(max_examples=80, deadline=None)
@given(frames_of_scores(), st.booleans())
def test_no_assignment_has_a_larger_sum(frames, complete):
    scores, truth_present, prediction_present = frames
    found = assign_frames(*frames, complete=complete)
    for frame in range(len(scores)):
        chosen = found.frames == frame
        rows, columns = found.truths[chosen], found.predictions[chosen]
        assert len(set(rows)) == len(rows)
        assert len(set(columns)) == len(columns)
        assert truth_present[frame, rows].all()
        assert prediction_present[frame, columns].all()
        assert scores[frame, rows, columns].sum() == pytest.approx(best_sum(scores[frame]), abs=1e-9)
        if complete:
            assert len(rows) == min(truth_present[frame].sum(), prediction_present[frame].sum())


def best_sum(scores):
    """By trying all."""
    if scores.shape[0] > scores.shape[1]:
        scores = scores.T
    return max(
        scores[range(len(scores)), list(order)].sum() for order in permutations(range(scores.shape[1]), len(scores))
    )
