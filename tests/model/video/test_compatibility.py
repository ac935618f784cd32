"""Each fix that changes results, and the switch that takes it back; numbered as in docs/video_compatibility.md."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam3.config import tiny
from sam3.io.frames import open_frames
from sam3.model.sam3_video_predictor import Sam3VideoPredictor
from sam3.model.tracker.session import TrackerSession
from sam3.model.tracker.tracker import Tracker, TrackerFeatures
from sam3.model.video.frame_output import assemble
from sam3.model.video.lifecycle import HotStart
from sam3.model.video.occlusion import NEVER, overlapping_to_blank
from sam3.model.video.open_video import OpenVideo
from sam3.model.video.prompts import Example
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import VideoModel
from sam3.model.video.video_session import VideoSession
from sam3.model.video.video_state import VideoState
from tests.model.video.test_open_video import BUSY, noise, predictor  # noqa: F401 - a fixture
from tests.model.video.test_video_model import SIZE, detections, tracker  # noqa: F401 - a fixture

FIXED, REFERENCE = VideoSettings(), VideoSettings(as_reference=True)
CLICK = torch.tensor([[0.5, 0.5]]), torch.tensor([1])


def session_of(tracker: Tracker, settings: VideoSettings, *scores: tuple[float, int]) -> VideoSession:  # noqa: F811
    def features(frame: int) -> TrackerFeatures:
        generator = torch.Generator().manual_seed(frame)
        return tracker.features([torch.randn(1, 32, side, side, generator=generator) for side in (32, 16, 8)])

    plain = replace(settings, hotstart_delay=0, hotstart_unmatched=0, hotstart_duplicate=0, recondition_every=0)
    return VideoSession(VideoModel(tracker, plain), lambda frame: detections(*scores), features, VideoState(SIZE, 5))


def open_video(predictor: Sam3VideoPredictor, settings: VideoSettings) -> OpenVideo:  # noqa: F811
    return OpenVideo(predictor.model, open_frames(noise(5)), settings)


BOX = Example(torch.tensor([0.1, 0.1, 0.6, 0.6]), is_positive=True)


@torch.inference_mode()
def test_4_what_an_example_shows_lives(predictor: Sam3VideoPredictor):  # noqa: F811
    delays = []
    for settings in (FIXED, REFERENCE):
        video = open_video(predictor, settings)
        video.look_for(0, None, BOX)
        delays.append(video.concepts[0].session.model.settings.hotstart_unmatched)
    assert delays == [0, FIXED.hotstart_unmatched]


@torch.inference_mode()
def test_7_an_example_counts_for_its_own_frame(predictor: Sam3VideoPredictor):  # noqa: F811
    scores = []
    for settings in (BUSY, replace(BUSY, as_reference=True)):
        video = open_video(predictor, settings)
        video.look_for(0, "a dog", BOX)
        with_box = [video.perception.detect(frame)[0].scores for frame in (1, 2)]
        video.look_for(0, "a dog", None)
        scores += [[torch.equal(a, video.perception.detect(frame)[0].scores) for frame, a in enumerate(with_box, 1)]]
    assert scores == [[True, True], [False, True]]


def test_10_every_pass_counts_anew(tracker: Tracker):  # noqa: F811
    kept = []
    for settings in (FIXED, REFERENCE):
        state = VideoState(SIZE, 5)
        state.hot_start = HotStart(first_frame={1: 0}, unmatched_frames={1: [0, 1, 2]})
        VideoModel(tracker, settings).begin_pass(state)
        kept.append(state.hot_start.unmatched_frames)
    assert kept == [{}, {1: [0, 1, 2]}]


@torch.no_grad()
def test_11_backward_as_forward(tracker: Tracker):  # noqa: F811
    masks = torch.ones(2, 8, 8, dtype=torch.bool)
    given = {"iou_threshold": 0.7, "is_reverse": True}
    assert overlapping_to_blank(masks, [NEVER, 4], **given).tolist() == [False, False]
    assert overlapping_to_blank(masks, [NEVER, 4], **given, symmetric=False).tolist() == [True, False]


@torch.no_grad()
def test_13_probabilities_compete_for_pixels(tracker: Tracker):  # noqa: F811
    scores = []
    for settings in (FIXED, REFERENCE):
        session = session_of(tracker, settings)
        session.prompt_points(0, 3, *CLICK)
        if settings.as_reference:
            session._note(session._next_action(0))  # a full propagation; then the click is tracked alone
            session.prompt_points(0, 3, *CLICK)
        list(session.propagate(0))
        scores.append(session.state.results.at(2).tracker_scores[3])
    probability, logit = scores
    assert 0 < probability < 1
    assert probability == pytest.approx(float(torch.tensor(logit).sigmoid()), abs=1e-5)
    assert logit > 1


@torch.no_grad()
def test_15_a_click_confirms(tracker: Tracker):  # noqa: F811
    confirmed = []
    for settings in (FIXED, REFERENCE):
        session = session_of(tracker, settings)
        session.state.confirmation.confirmed.add(3)
        session.prompt_points(0, 3, *CLICK)
        confirmed.append(session.state.confirmation.confirmed)
    assert confirmed == [{3}, set()]


@torch.no_grad()
def test_18_without_an_answer_an_object_is_absent(tracker: Tracker):  # noqa: F811
    scores = []
    for settings in (FIXED, REFERENCE):
        owner = session_of(tracker, settings)
        session: TrackerSession = owner.model.new_session(owner.state, owner.features)
        session.add_points(0, 1, *CLICK)
        session.add_points(2, 2, *CLICK)
        session.consolidate()
        scores.append(float(session.conditioning[0].object_score_logits[1]))
    assert scores == [-10.0, 10.0]


@torch.no_grad()
def test_20_a_frame_is_worked_off_once(tracker: Tracker):  # noqa: F811
    counts = []
    for settings in (FIXED, REFERENCE):
        session = session_of(tracker, settings, (0.9, 0))
        asked: list[int] = []
        detect = session.detect
        session.detect = lambda frame, asked=asked, detect=detect: asked.append(frame) or detect(frame)
        session.prompt_concept(1)
        shown = [list(session.propagate(1)) for _ in range(3)]
        assert [frame for frame, _ in shown[0]] == [1, 2, 3, 4]
        counts.append(len(asked))
        backward = [frame for frame, _ in session.propagate(1, is_reverse=True)]
        assert backward == ([] if settings.as_reference else [0])  # whose third propagation hands out what is known
    assert counts == [1 + 4, 1 + 2 * 4]


def test_31_who_lost_all_pixels_does_not_show_and_boxes_end_after_their_last_pixel(tracker: Tracker):  # noqa: F811
    first, second = torch.zeros(2, 8, 8, dtype=torch.bool)
    first[2:6, 2:6] = True
    second[3:5, 3:5] = True
    given = {"masks": {0: first, 1: second}, "scores": {0: 0.9, 1: 0.8}, "tracker_scores": {0: 0.9, 1: 0.1}}
    fixed = assemble(**given, size=(8, 8))
    reference = assemble(**given, size=(8, 8), drop_emptied=False, inclusive_boxes=True)
    assert (fixed.obj_ids, reference.obj_ids) == ([0], [0, 1])
    assert fixed.boxes_xywh[0].tolist() == [2 / 8, 2 / 8, 4 / 8, 4 / 8]
    assert reference.boxes_xywh[0].tolist() == [2 / 8, 2 / 8, 3 / 8, 3 / 8]
    for settings in (FIXED, REFERENCE):
        state = VideoState((8, 8), 1)
        state.birth_scores = {0: 0.9, 1: 0.8}
        state.results.put_object(0, 0, first, 0.9)
        state.results.put_object(0, 1, second, 0.1)
        shown = VideoModel(tracker, settings).shown(state, 0)
        assert shown.obj_ids == (reference if settings.as_reference else fixed).obj_ids


@pytest.mark.parametrize(("image_size", "pixels"), [(1008, 16), (672, 7), (112, 0)])
def test_specks_are_as_large_in_proportion_at_every_resolution(image_size: int, pixels: int):
    with torch.device("meta"):
        tracker = Tracker(replace(tiny().tracker, image_size=image_size))
    assert VideoModel(tracker, FIXED).clean_area == pixels
    assert VideoModel(tracker, REFERENCE).clean_area == 16


def test_the_table_names_every_defect_and_what_is_restored_is_tested(repository: Path):
    text = (repository / "docs" / "video_compatibility.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", text, re.MULTILINE))
    assert list(rows) == [str(number) for number in range(1, 32)]
    restored = {int(number) for number, what in rows.items() if what.startswith("restored") and "loaders" not in what}
    tested = {int(name.split("_")[1]) for name in globals() if re.match(r"test_\d+_", name)}
    assert restored == tested
