"""Suppression of repeated tracks and boxes."""

from sam3.eval.track_nms import unsuppressed_boxes, unsuppressed_tracks
from tests.eval.masklets import data, document, track

BOX, NEAR, FURTHER, APART = (2, 2, 9, 9), (4, 2, 9, 9), (6, 2, 9, 9), (18, 6, 9, 9)


def found(*records):
    return data(document([]), records).predictions


def test_the_better_of_two_stays_whatever_the_order_and_the_phrase():
    worse, better = track([NEAR] * 3, score=0.3), track([BOX] * 3, category_id=2, score=0.6)
    assert unsuppressed_tracks(found(worse, better), 0.5).tolist() == [False, True]
    assert unsuppressed_tracks(found(better, worse), 0.5).tolist() == [True, False]


def test_a_suppressed_track_suppresses_nobody():
    chain = found(track([BOX] * 3, score=0.9), track([NEAR] * 3, score=0.8), track([FURTHER] * 3, score=0.7))
    assert unsuppressed_tracks(chain, 0.5).tolist() == [True, False, True]
    assert unsuppressed_boxes(chain, 0.5).tolist() == [[True, False, True]] * 3


def test_only_frames_in_which_both_are_present_count():
    tracks = found(track([BOX, BOX, None], score=0.9), track([None, BOX, APART], score=0.8))
    assert unsuppressed_tracks(tracks, 0.5).tolist() == [True, False]
    assert unsuppressed_boxes(tracks, 0.5).tolist() == [[True, True], [True, False], [True, True]]


def test_the_threshold_itself_suppresses():
    third = found(track([(0, 0, 4, 2)] * 3, score=0.9), track([(2, 0, 4, 2)] * 3, score=0.8))  # IoU 4 / 12
    assert unsuppressed_tracks(third, 1 / 3).tolist() == [True, False]
    assert unsuppressed_tracks(third, 0.34).tolist() == [True, True]


def test_no_tracks():
    assert unsuppressed_tracks([], 0.5).shape == (0,)
    assert unsuppressed_boxes([], 0.5).shape == (0, 0)
