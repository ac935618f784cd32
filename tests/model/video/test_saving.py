"""Going on from a file changes nothing, bit for bit."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from sam3.errors import DataError
from sam3.io.frames import open_frames
from sam3.model.sam3_video_predictor import Sam3VideoPredictor, TrackedVideoFrame
from sam3.model.video.open_video import OpenVideo
from sam3.model.video.prompts import Clicks, Example
from sam3.model.video.saving import next_frame, weights_fingerprint
from sam3.model.video.settings import VideoSettings
from tests.model.test_sam3_video_predictor import ask, pictures, predictor, start, stream  # noqa: F401 - a fixture

PHRASES = ["red circle", "box"]
SETTINGS = replace(
    VideoSettings(),
    score_threshold=0.0,
    new_object_score=0.0,
    hotstart_delay=4,
    hotstart_unmatched=4,
    hotstart_duplicate=4,
    recondition_every=3,
    confident_score=0.0,
    confident_iou=0.1,
    max_objects=2,
)


@pytest.fixture(scope="module")
def tracking(predictor: Sam3VideoPredictor) -> Sam3VideoPredictor:  # noqa: F811
    return Sam3VideoPredictor(predictor.model, SETTINGS)


def clicks(obj_id: int, place: float) -> Clicks:
    return Clicks(obj_id, torch.tensor([[place, place]]), torch.tensor([1]))


def same(a: TrackedVideoFrame, b: TrackedVideoFrame) -> bool:
    return (
        (a.index, a.ids, a.labels) == (b.index, b.ids, b.labels)
        and np.array_equal(a.masks, b.masks)
        and np.array_equal(a.scores, b.scores)
    )


@pytest.mark.parametrize(("saved_after", "stream"), [(1, False), (4, True), (7, False)])
def test_going_on_shows_what_going_through_shows(
    tracking: Sam3VideoPredictor, tmp_path: Path, saved_after: int, stream: bool
):
    """Saved while outputs wait, in the middle, and while the last outputs leave."""
    given = pictures(8)
    path = tmp_path / "é.session"
    straight = list(tracking.track(iter(given) if stream else given, PHRASES))
    assert sum(len(frame.ids) for frame in straight) > 10
    source = iter(given) if stream else given
    first = list(islice(tracking.track(source, PHRASES, save_to=path, save_every=saved_after), saved_after + 1))
    begin = next_frame(path)
    rest = list(tracking.track(iter(given[begin:]) if stream else given, PHRASES, resume_from=path))
    assert rest[0].index == saved_after == first[-1].index
    assert all(same(a, b) for a, b in zip(straight, [*first[:saved_after], *rest], strict=True))


def test_a_crash_costs_at_most_the_frames_since_the_last_save(tracking: Sam3VideoPredictor, tmp_path: Path):
    path = tmp_path / "a.session"
    frames = tracking.track(pictures(9), PHRASES[:1], save_to=path, save_every=3)
    seen = [next(frames).index for _ in range(8)]
    assert next(tracking.track(pictures(9), PHRASES[:1], resume_from=path)).index == seen[-1] - 1


@torch.inference_mode()
def test_clicks_examples_and_history_come_back(tracking: Sam3VideoPredictor, tmp_path: Path):
    def video() -> OpenVideo:
        made = OpenVideo(tracking.model, open_frames(pictures(6)), SETTINGS)
        made.look_for(1, None, Example(torch.tensor([0.1, 0.1, 0.5, 0.5]), True))
        list(made.propagate(1))
        made.click(2, clicks(40, 0.5))
        return made

    straight = video()
    straight.save(tmp_path / "a.session")
    loaded = OpenVideo(tracking.model, open_frames(pictures(6)), SETTINGS)
    loaded.load(tmp_path / "a.session")
    assert loaded.ids.next == straight.ids.next == 41
    assert list(loaded.go_on()) == []
    first = [*islice(straight.propagate(2, directions=(False, True)), 3)]
    straight.save(tmp_path / "b.session")  # with the pass backward still to come
    loaded.load(tmp_path / "b.session")
    both = [[*video.go_on(), video.click(0, clicks(40, 0.2))] for video in (straight, loaded)]
    assert [shown.index for shown in first + both[0]] == [2, 3, 4, 5, 1, 0, 0]
    for a, b in zip(*both, strict=True):
        assert (a.index, a.labels, a.objects.obj_ids) == (b.index, b.labels, b.objects.obj_ids)
        assert torch.equal(a.objects.masks, b.objects.masks)


def test_sessions_are_saved_and_gone_on_with_by_request(tracking: Sam3VideoPredictor, tmp_path: Path):
    path = str(tmp_path / "a.session")
    session = start(tracking, resource_path=pictures(6))
    ask(tracking, session, "add_prompt", frame_index=2, text="red circle")
    frames = tracking.handle_stream_request({"type": "propagate_in_video", "session_id": session})
    assert [next(frames)["frame_index"] for _ in range(2)] == [2, 3]
    ask(tracking, session, "save_session", path=path)
    straight = list(frames)
    again = start(tracking, resource_path=pictures(6), load_from=path)
    rest = stream(tracking, again, go_on=True)
    assert [frame["frame_index"] for frame in rest] == [4, 5, 1, 0]
    for a, b in zip(straight, rest, strict=True):
        assert np.array_equal(a["outputs"]["out_obj_ids"], b["outputs"]["out_obj_ids"])
        assert np.array_equal(a["outputs"]["out_binary_masks"], b["outputs"]["out_binary_masks"])
    for name in (session, again):
        ask(tracking, name, "close_session")
    with pytest.raises(DataError, match="another video: frames was 6, now it is 5"):
        start(tracking, resource_path=pictures(5), load_from=path)
    assert len(tracking.sessions) == 0


def test_what_does_not_fit_is_named(tracking: Sam3VideoPredictor, tmp_path: Path):
    path = tmp_path / "a.session"
    frames = tracking.track(pictures(3), PHRASES[:1], save_to=path, save_every=1)
    next(frames), next(frames)

    def resume(by: Sam3VideoPredictor = tracking, video=None, phrases=PHRASES[:1], path: Path = path) -> None:
        next(by.track(video or pictures(3), phrases, resume_from=path))

    with pytest.raises(DataError, match="another setting: nms_iou was 0.1, now it is 0.2; make them equal"):
        resume(Sam3VideoPredictor(tracking.model, replace(SETTINGS, nms_iou=0.2)))
    with pytest.raises(DataError, match="another video: height was 40, now it is 20"):
        resume(video=[picture.resize((60, 20)) for picture in pictures(3)])
    with pytest.raises(DataError, match="another video: frames was 3, now it is 4"):
        resume(video=pictures(4))
    with pytest.raises(DataError, match=r"looking for \['red circle'\], not \['box'\]"):
        resume(phrases=["box"])
    with pytest.raises(DataError, match=r"nobody' does not exist"):
        resume(path=tmp_path / "nobody")
    (tmp_path / "other").write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"other' cannot be read"):
        resume(path=tmp_path / "other")
    bias = tracking.model.tracker.no_obj_ptr
    before = weights_fingerprint(tracking.model)
    value = bias.data[0, 0].clone()
    bias.data[0, 0] += 1
    assert weights_fingerprint(tracking.model) != before
    with pytest.raises(DataError, match="saved with other weights"):
        resume()
    bias.data[0, 0] = value
    resume()
