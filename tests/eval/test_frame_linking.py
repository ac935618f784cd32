"""Linking detections from frame to frame: what it can follow, and what it cannot."""

import numpy as np
import pytest

from sam3.eval.frame_linking import assign, link_frames


def box(x, y=0, side=10):
    mask = np.zeros((40, 60), dtype=bool)
    mask[y : y + side, x : x + side] = True
    return mask


def frames(*rows):
    """Masks (D, H, W) and scores of each frame; the score of a box counts its place."""
    masks = [np.stack(row) if row else np.zeros((0, 40, 60), dtype=bool) for row in rows]
    return masks, [np.arange(1, len(row) + 1) / 10 for row in rows]


def test_moving_objects_keep_their_track_whatever_the_order_of_detections():
    tracks = link_frames(*frames([box(0), box(30)], [box(33), box(3)], [box(6), box(36)]))
    assert [sorted(track.masks) for track in tracks] == [[0, 1, 2], [0, 1, 2]]
    assert [int(track.masks[2].any(0).argmax()) for track in tracks] == [6, 36]
    assert tracks[0].scores == {0: 0.1, 1: 0.2, 2: 0.1}
    assert tracks[0].score == pytest.approx(0.4 / 3)


def test_an_object_that_hides_comes_back_as_another():
    hidden = frames([box(0)], [], [box(2)])
    assert [sorted(track.masks) for track in link_frames(*hidden)] == [[0], [2]]
    assert [sorted(track.masks) for track in link_frames(*hidden, max_gap=1)] == [[0, 2]]


def test_too_little_overlap_begins_a_track():
    far = frames([box(0)], [box(9)])  # 10 of 190 pixels
    assert len(link_frames(*far)) == 2
    assert len(link_frames(*far, min_iou=0.05)) == 1


def test_the_assignment_is_the_best_as_a_whole():
    known, found = [box(0), box(4)], np.stack([box(3), box(30)])
    assert assign(known, found, min_iou=0.1) == {0: 1}
    assert assign([box(2), box(6)], np.stack([box(4), box(0)]), min_iou=0.1) == {0: 1, 1: 0}
    assert assign([], found, min_iou=0.1) == {}
    assert assign(known, found[:0], min_iou=0.1) == {}


def test_nothing_at_all():
    assert link_frames([], []) == []
    assert link_frames(*frames([], [])) == []
    assert link_frames(*frames([np.zeros((40, 60), dtype=bool)])) != []  # an empty detection links to nothing
