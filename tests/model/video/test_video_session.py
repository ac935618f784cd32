"""Prompts, corrections and removals in any order, on a small random tracker and a scripted detector."""

from dataclasses import replace

import pytest
import torch

from sam3.errors import UserError
from sam3.model.tracker.tracker import Tracker, TrackerFeatures
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import VideoModel
from sam3.model.video.video_session import VideoSession
from sam3.model.video.video_state import VideoState
from tests.model.video.test_video_model import SIZE, detections, tracker  # noqa: F401 - a fixture

CLICK = torch.tensor([[0.5, 0.5]]), torch.tensor([1])


@pytest.fixture
def session(tracker: Tracker) -> VideoSession:  # noqa: F811
    def features(frame: int) -> TrackerFeatures:
        generator = torch.Generator().manual_seed(frame)
        return tracker.features([torch.randn(1, 32, side, side, generator=generator) for side in (32, 16, 8)])

    model = VideoModel(tracker, replace(VideoSettings(), hotstart_delay=0, recondition_every=0))
    return VideoSession(model, lambda frame: detections((0.9, 0), (0.8, 20)), features, VideoState(SIZE, 5))


@torch.no_grad()
def test_a_text_begins_anew(session: VideoSession):
    assert session.prompt_concept(0).obj_ids == [0, 1]
    list(session.propagate())
    assert session.prompt_concept(3).obj_ids == [0, 1]
    assert sorted(session.state.results.frames) == [3]
    assert session.state.history == []


@torch.no_grad()
def test_clicks_without_a_text_track_what_was_clicked(session: VideoSession):
    shown = session.prompt_points(1, 7, *CLICK)
    assert set(shown.obj_ids) <= {7}
    assert session.state.birth_scores == {7: 1.0}
    frames = list(session.propagate())
    assert [frame for frame, _ in frames] == [1, 2, 3, 4]
    assert session.state.obj_ids == [7]
    assert session.state.ids.next == 8


@torch.no_grad()
def test_a_correction_replaces_only_that_object(session: VideoSession):
    session.prompt_concept(0)
    list(session.propagate())
    results = session.state.results
    before = {frame: results.masks(frame)[1] for frame in results.frames}
    session.prompt_points(2, 0, *CLICK)
    list(session.propagate(2))
    assert all(torch.equal(results.masks(frame)[1], mask) for frame, mask in before.items())
    assert session.state.birth_scores[0] == 1.0


@torch.no_grad()
def test_a_removed_object_is_gone_from_every_frame_and_its_id_is_not_used_again(session: VideoSession):
    session.prompt_concept(0)
    list(session.propagate())
    used = set(session.state.results.obj_ids)
    session.remove(1)
    assert all(1 not in session.state.results.masks(frame) for frame in range(5))
    assert [frame for frame, _ in session.propagate(0)] == [0, 1, 2, 3, 4]
    assert session.state.ids.take(1) == [max(used) + 1]
    with pytest.raises(UserError, match="there is no object 1; objects of this session: "):
        session.remove(1)


def test_nothing_to_propagate(session: VideoSession):
    with pytest.raises(UserError, match="add a prompt first"):
        next(session.propagate())
