"""HOTA of one sequence against its slow definition, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3.eval.hota import NAMES, HotaCounts, count_sequence
from tests.eval import video_definition


def as_frames(similarity, truth_present, prediction_present):
    """The form in which the slow definition reads a sequence."""
    frames = []
    for values, truths, tracks in zip(similarity, truth_present, prediction_present, strict=True):
        rows, columns = np.flatnonzero(truths).tolist(), np.flatnonzero(tracks).tolist()
        frames.append((set(rows), set(columns), {(i, j): float(values[i, j]) for i in rows for j in columns}))
    return frames


@st.composite
def sequences(draw):
    """Similarities of hardly overlapping or crowded tracks, coarse so that ties and exact thresholds occur, or fine."""
    frames, truths, tracks = draw(st.integers(1, 6)), draw(st.integers(0, 4)), draw(st.integers(0, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    similarity = generator.random((frames, truths, tracks)) * (generator.random((frames, truths, tracks)) < 0.7)
    if draw(st.booleans()):
        similarity = np.round(similarity * 20) / 20
    return similarity, generator.random((frames, truths)) < 0.8, generator.random((frames, tracks)) < 0.8


@settings(max_examples=100, deadline=None)
@given(sequences())
def test_equals_the_slow_definition(sequence):
    similarity, truth_present, prediction_present = sequence
    frames = as_frames(*sequence)
    expected = video_definition.hota(frames, range(similarity.shape[1]), range(similarity.shape[2]))
    found = count_sequence(*sequence).result().to_dict()
    assert list(found) == list(NAMES)
    assert list(found.values()) == pytest.approx(expected, abs=1e-12)


def test_a_perfect_tracker_has_one_everywhere():
    similarity = np.tile(np.eye(3), (4, 1, 1))
    found = count_sequence(similarity, np.ones((4, 3), bool), np.ones((4, 3), bool)).result()
    assert set(found.to_dict().values()) == {1.0}


def test_swapped_identities_cost_association_only():
    similarity = np.stack([np.eye(2), np.eye(2), np.eye(2)[::-1], np.eye(2)[::-1]])
    found = count_sequence(similarity, np.ones((4, 2), bool), np.ones((4, 2), bool)).result()
    assert (found.det_a, found.loc_a) == (1.0, 1.0)
    assert found.ass_a == pytest.approx(1 / 3)  # each true positive: 2 frames together, 2 + 2 apart


def test_without_predictions_everything_is_missed():
    counts = count_sequence(np.zeros((3, 2, 0)), np.ones((3, 2), bool), np.zeros((3, 0), bool))
    assert counts.fn.tolist() == [6.0] * 19
    assert counts.result().to_dict() == dict.fromkeys(NAMES, 0.0) | {"LocA": 1.0}


def test_without_objects_every_prediction_is_false():
    counts = count_sequence(np.zeros((3, 0, 2)), np.zeros((3, 0), bool), np.ones((3, 2), bool))
    assert counts.fp.tolist() == [6.0] * 19
    assert counts.result().hota == 0.0


def test_what_similarity_says_of_absent_tracks_does_not_count():
    similarity, present = np.ones((2, 1, 1)), np.array([[True], [False]])
    counts = count_sequence(similarity, present, np.ones((2, 1), bool))
    assert (counts.tp[0], counts.fp[0], counts.fn[0]) == (1.0, 1.0, 0.0)


def test_sequences_add_up_weighted_by_true_positives():
    good = count_sequence(np.ones((3, 1, 1)), np.ones((3, 1), bool), np.ones((3, 1), bool))
    half = count_sequence(np.full((1, 1, 1), 0.5), np.ones((1, 1), bool), np.ones((1, 1), bool))
    both = (good + half).result()
    assert both.det_a == pytest.approx((10 * 1.0 + 9 * 3 / 5) / 19)
    assert both.loc_a == pytest.approx((10 * 3.5 / 4 + 9 * 1.0) / 19)
    assert (HotaCounts() + good).result() == good.result()
