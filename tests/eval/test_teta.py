"""TETA against its slow definition, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3.errors import DataError
from sam3.eval.teta import ClassCounts, Teta, TetaVideo, count_video, teta
from tests.eval import video_definition
from tests.eval.masklets import data, document, track
from tests.eval.test_hota import as_frames

BOX, APART = (2, 2, 8, 8), (18, 6, 8, 8)


@st.composite
def videos(draw):
    """One to three videos of three phrases, of which some occur only in predictions."""
    return [draw(one_video()) for _ in range(draw(st.integers(1, 3)))]


@st.composite
def one_video(draw):
    frames, truths, tracks = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(0, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth_present = generator.random((frames, truths)) < 0.8
    truth_present[np.arange(frames), generator.integers(truths, size=frames)] = True
    prediction_present = generator.random((frames, tracks)) < 0.8
    similarity = generator.random((frames, truths, tracks)) * (generator.random((frames, truths, tracks)) < 0.6)
    if draw(st.booleans()):
        similarity = np.round(similarity * 20) / 20
    similarity = similarity * (truth_present[:, :, None] & prediction_present[:, None])
    classes = generator.integers(3, size=truths), generator.integers(4, size=tracks)
    return TetaVideo(similarity, truth_present, prediction_present, *classes)


@settings(max_examples=80, deadline=None)
@given(videos(), st.booleans())
def test_equals_the_slow_definition(clips, exhaustive):
    annotated = {int(name) for clip in clips for name in clip.truth_classes}
    order = [name for name in (2, 0, 1) if name in annotated]  # that of the table, which the numbers depend on
    counts = {name: ClassCounts() for name in order}
    slow = []
    for clip in clips:
        count_video(clip, counts, exhaustive=exhaustive)
        frames = as_frames(clip.similarity, clip.truth_present, clip.prediction_present)
        classes = (dict(enumerate(names.tolist())) for names in (clip.truth_classes, clip.prediction_classes))
        slow.append(video_definition.teta_video(frames, *classes, order, exhaustive))
    for name in order:  # false calls hardly show in the rates, for they need a true one beside them
        assert counts[name].cls_fp.tolist() == np.sum([clip[name]["cls_fp"] for clip in slow], axis=0).tolist()
    found = 100 * np.mean([counts[name].rates() for name in order], axis=0).mean(axis=1)
    assert found.tolist() == pytest.approx(video_definition.teta(slow, order), abs=1e-9)


def test_a_perfect_tracker_has_a_hundred_in_everything_but_what_zero_overlap_costs():
    content = document([track([BOX] * 3), track([APART] * 3, category_id=2)])
    found = teta(data(content, [track([BOX] * 3, score=1.0), track([APART] * 3, category_id=2, score=0.5)]))
    assert set(found.to_dict().values()) == {100.0}


def test_the_wrong_phrase_costs_classification_only():
    content = document([track([BOX] * 3), track([APART] * 3, category_id=2)])
    swapped = [track([BOX] * 3, category_id=2, score=1.0), track([APART] * 3, score=1.0)]
    found = teta(data(content, swapped))
    assert (found.loc_a, found.assoc_a, found.cls_a) == (100.0, 100.0, 0.0)


def test_five_significant_digits():
    content = document([track([BOX] * 3)])
    found = teta(data(content, [track([BOX, BOX, None], score=1.0)]))
    assert found.loc_re == 66.667


@pytest.mark.parametrize("nms", ["none", "track", "frame"])
@pytest.mark.parametrize("predictions", [[], [track([BOX] * 3, score=0.499)]])
def test_nothing_predicted_or_nothing_confident_is_zero(predictions, nms):
    assert set(teta(data(document([track([BOX] * 3)]), predictions), nms=nms).to_dict().values()) == {0.0}


def test_nothing_annotated_is_zero():
    assert teta(data(document([]), [track([BOX] * 3, score=1.0)])) == Teta(*[0.0] * 10)


def test_frames_without_any_object_do_not_count():
    content = document([track([BOX, None, None])])
    assert teta(data(content, [track([BOX, BOX, APART], score=1.0)])).teta == 100.0


def test_false_tracks_of_a_phrase_count_unless_the_annotation_is_not_exhaustive():
    sets = data(document([track([BOX] * 3)]), [track([BOX] * 3, score=1.0), track([APART] * 3, score=0.9)])
    assert (teta(sets).cls_pr, teta(sets, exhaustive=False).cls_pr) == (50.0, 100.0)


def test_suppression_of_repeated_tracks_and_boxes():
    near = (3, 2, 8, 8)  # IoU 7 / 9
    sets = data(document([track([BOX] * 3)]), [track([BOX] * 3, score=0.9), track([near, None, APART], score=0.8)])
    assert teta(sets).loc_pr < 100.0
    assert teta(sets, nms="frame").loc_pr == 100.0
    assert teta(sets, nms="track").loc_pr == teta(sets).loc_pr  # 56 / 200 of the pixels in both frames
    assert teta(sets, nms="track", nms_threshold=0.28).cls_pr == 100.0
    assert teta(sets, nms="frame").cls_pr == 75.0  # the box that stands apart stays
    with pytest.raises(DataError, match="nms is 'soft'; expected none, track or frame"):
        teta(sets, nms="soft")
