"""What is let go of changes nothing that is still asked for, on a small random tracker and a scripted detector."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3.config import TrackerConfig
from sam3.errors import ForgottenFrameError
from sam3.model.tracker.memory_bank import FrameMemory, Moment, needed_later, recall
from sam3.model.tracker.tracker import Tracker, TrackerFeatures
from sam3.model.video.limits import MemoryLimits
from sam3.model.video.saved_state import Tensors, record_of
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import Detections, VideoModel
from sam3.model.video.video_session import VideoSession
from sam3.model.video.video_state import VideoState
from tests.model.video.test_video_model import SIZE, detections, tracker  # noqa: F401 - a fixture

NOTHING_SPARE = MemoryLimits(tracker_bytes=0, result_bytes=0)
SETTINGS = replace(
    VideoSettings(), hotstart_delay=3, hotstart_unmatched=3, hotstart_duplicate=3, recondition_every=3, max_objects=2
)


class Follower:
    """A detector that sees what the tracker showed a frame ago, so that objects live and are re-conditioned."""

    def __init__(self) -> None:
        self.state: VideoState | None = None

    def __call__(self, frame: int) -> Detections:
        if not self.state.sessions:
            return detections((0.9, 0), (0.8, 20))
        masks = []
        for session in self.state.sessions:
            known = session.tracked | session.conditioning
            if (latest := known.get(frame - 1) or known.get(frame + 1)) is not None:
                masks.append(latest.low_res_masks[:, 0])
        found = torch.cat(masks) if masks else torch.zeros(0, 32, 32)
        return Detections(torch.full((len(found),), 0.95), torch.zeros(len(found), 4), found)


def make(
    tracker: Tracker,  # noqa: F811
    limits: MemoryLimits,
    frames: int | None,
    settings: VideoSettings = SETTINGS,
    last: int = 27,
) -> VideoSession:
    def features(frame: int) -> TrackerFeatures:
        scene, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(frame)
        levels = [(1, 32, side, side) for side in (32, 16, 8)]
        return tracker.features(
            [torch.randn(size, generator=scene) + 0.1 * torch.randn(size, generator=noise) for size in levels]
        )

    detect = Follower()
    has_frame = (lambda frame: frame <= last) if frames is None else None
    session = VideoSession(
        VideoModel(tracker, settings, limits), detect, features, VideoState(SIZE, frames), has_frame, has_concept=True
    )
    detect.state = session.state
    return session


def same(first, second) -> bool:
    return all(
        a[0] == b[0]
        and a[1].obj_ids == b[1].obj_ids
        and torch.equal(a[1].masks, b[1].masks)
        and torch.equal(a[1].scores, b[1].scores)
        for a, b in zip(first, second, strict=True)
    )


@torch.no_grad()
@pytest.mark.parametrize(("selection", "length"), [(True, None), (False, 28)])
def test_forward_and_back_show_the_same_with_little_memory(tracker: Tracker, selection, length):  # noqa: F811
    shown, sessions = [], []
    whole = tracker.config
    tracker.config = replace(whole, use_memory_selection=selection, max_pointers=4, max_cond_frames=2)
    for limits, frames in ((MemoryLimits(), 28), (NOTHING_SPARE, length)):
        session = make(tracker, limits, frames)
        shown.append([*session.propagate(5), *session.propagate(5, is_reverse=True)])
        sessions.append(session)
    tracker.config = whole
    assert [frame for frame, _ in shown[0]] == [*range(5, 28), *range(4, -1, -1)]
    assert sum(len(objects.obj_ids) for _, objects in shown[0]) > 30
    assert same(*shown)
    free, bounded = sessions
    kept = bounded.state.sessions[0]
    assert len(free.state.sessions[0].conditioning) > 5
    assert len(kept.tracked) < len(free.state.sessions[0].tracked)
    assert len(kept.conditioning) < len(free.state.sessions[0].conditioning)
    assert sum(entry.low_res_masks is not None for entry in kept.tracked.values()) <= 5
    assert len(bounded.state.results) == SETTINGS.hotstart_delay  # none was worked off after these


@torch.no_grad()
def test_what_is_kept_does_not_grow(tracker: Tracker):  # noqa: F811
    """Everything there is to save, after 30 frames and after 60."""
    whole = tracker.config
    tracker.config = replace(whole, max_pointers=4, max_cond_frames=2)
    session = make(tracker, MemoryLimits(tracker_bytes=0, result_bytes=20_000), None, last=64)
    sizes = {}
    for frame, _ in session.propagate(0):
        if frame in (30, 45, 60):  # alike in the rhythm of re-conditioning
            tensors = Tensors()
            record = record_of(session, tensors)
            sizes[frame] = sum(one.numel() for one in tensors.values.values()), len(json.dumps(record))
    tracker.config = whole
    assert len(session.state.obj_ids) == 2
    assert sizes[30][0] == sizes[45][0] == sizes[60][0]
    assert max(size for _, size in sizes.values()) < 1.1 * min(size for _, size in sizes.values())


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_what_is_needed_later_is_what_everything_gives(data: st.DataObject):
    """Choosing from what is kept equals choosing from everything, forward and then back from the start."""
    config = TrackerConfig(use_memory_selection=data.draw(st.booleans()))
    nothing = torch.zeros(1)

    def entry(score: float | None) -> FrameMemory:
        return FrameMemory(nothing, nothing, nothing, nothing, frame_score=score)

    everything, kept = ({}, {}), ({}, {})
    start, end = 30, data.draw(st.integers(32, 110))
    order = [(frame, False) for frame in range(start, end)] + [(frame, True) for frame in range(start - 1, 0, -1)]
    for frame, is_reverse in order:
        moment = Moment(frame, None, is_reverse)
        a, b = (recall(moment, *memories, config) if memories[0] else None for memories in (everything, kept))
        assert a == b or [list(map(id, (x.frame for x in part))) for part in (a.maps, a.pointers)] == [
            list(map(id, (x.frame for x in part))) for part in (b.maps, b.pointers)
        ]
        made = entry(data.draw(st.sampled_from([0.0, 0.5])))
        place = 0 if frame == start or data.draw(st.integers(0, 7)) == 0 else 1
        for memories in (everything, kept):
            memories[place][frame] = made
        scores = {number: memory.frame_score for number, memory in kept[1].items()}
        needed = needed_later(moment, kept[0], scores, config, window=16)
        kept = (
            {number: kept[0][number] for number in kept[0] if number in needed.conditioning},
            {number: kept[1][number] for number in kept[1] if number in needed.pointers},
        )
    assert len(kept[0]) + len(kept[1]) < 150


@torch.no_grad()
def test_results_that_went_are_named(tracker: Tracker):  # noqa: F811
    session = make(tracker, MemoryLimits(result_bytes=20_000), 40)
    session.prompt_concept(0)
    session.detect.state = session.state
    list(session.propagate(0))
    assert session.state.results.num_bytes <= 20_000
    first = min(session.state.results.frames)
    assert first > 3
    with pytest.raises(ForgottenFrameError, match=rf"results of frame 3 are no longer kept \(kept: frames {first} "):
        next(session.propagate(3))
    with pytest.raises(ForgottenFrameError, match="larger memory_budget"):
        session.prompt_points(3, 0, torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
    assert [frame for frame, _ in session.propagate(first)] == list(range(first, 40))
