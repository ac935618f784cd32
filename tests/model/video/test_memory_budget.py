"""From a budget to limits, and what happens at them."""

import gc
from dataclasses import replace

import pytest
import torch

from sam3.config import sam3, tiny
from sam3.errors import ConfigError, SessionError, UserError
from sam3.model.sam3_video_predictor import Sam3VideoPredictor
from sam3.model.video.limits import DEFAULT_LIMITS, MemoryLimits, smallest_window
from sam3.model.video.memory_budget import plan_memory, shown_bytes, step_bytes
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.video_model import EMPTY_FRAMES
from tests.model.test_sam3_video_predictor import ask, pictures, predictor, start, stream  # noqa: F401 - a fixture
from tests.model.video.test_bounded_memory import SETTINGS, make
from tests.model.video.test_video_model import detections, tracker  # noqa: F401 - a fixture

MIB = 2**20
FULL_HD = 1080, 1920


@pytest.fixture(scope="module")
def model(predictor: Sam3VideoPredictor) -> Sam3Video:  # noqa: F811
    return predictor.model


def test_a_gpu_and_the_process_count_each_for_itself(model: Sam3Video):
    with torch.device("meta"):  # as on any device that is not the CPU
        elsewhere = Sam3Video(model.config)
    together, apart = (plan_memory(700 * MIB, one, FULL_HD) for one in (model, elsewhere))
    assert "process" in together.fixed
    assert "process" not in apart.fixed
    assert apart.limits.max_objects > together.limits.max_objects


def test_a_larger_budget_keeps_more(model: Sam3Video):
    small, large = (plan_memory(size * MIB, model, FULL_HD).limits for size in (700, 4000))
    assert 1 <= small.max_objects < large.max_objects
    assert small.tracker_bytes < large.tracker_bytes
    assert small.result_bytes < large.result_bytes
    assert 4 <= small.source_frames <= large.source_frames == 32


@pytest.mark.parametrize("size", [650, 1000, 5000])
def test_what_is_shared_out_fits_the_budget(model: Sam3Video, size: int):
    plan = plan_memory(size * MIB, model, FULL_HD)
    limits, frame = plan.limits, 3 * FULL_HD[0] * FULL_HD[1]
    kept = limits.tracker_bytes + limits.result_bytes + limits.source_frames * frame
    fixed = sum(size for name, size in plan.fixed.items() if name not in ("frames", "results"))
    at_work = limits.max_objects * (step_bytes(model.tracker.config) + shown_bytes(FULL_HD))
    assert kept + fixed + at_work <= size * MIB
    assert limits.tracker_window(limits.max_objects, model.tracker.config) >= smallest_window(model.tracker.config)


def test_too_little_is_refused_with_what_would_do(model: Sam3Video):
    with pytest.raises(
        ConfigError, match=r"memory_budget is 100 MiB, but one object at 1920 x 1080 .* at least \d+MiB"
    ):
        plan_memory(100 * MIB, model, FULL_HD)
    with pytest.raises(ConfigError) as error:
        plan_memory(1, model, FULL_HD)
    smallest = int(str(error.value).rsplit("least ", 1)[1].removesuffix("MiB"))
    assert plan_memory(smallest * MIB, model, FULL_HD).limits.max_objects == 1
    with pytest.raises(ConfigError):
        plan_memory((smallest - 1) * MIB, model, FULL_HD)


def test_phrases_share_alike():
    limits = MemoryLimits(tracker_bytes=90, result_bytes=60, max_objects=4).shared_by(3)
    assert (limits.tracker_bytes, limits.result_bytes, limits.max_objects) == (30, 20, 1)
    assert MemoryLimits().shared_by(3) == MemoryLimits()
    assert MemoryLimits(max_objects=2).shared_by(5).max_objects == 1


def test_without_a_budget_ordinary_clips_lose_nothing():
    """Ten objects, ten seconds of the released model at 25 frames per second: every frame stays whole."""
    config = sam3().tracker_config()
    assert DEFAULT_LIMITS.max_objects is None
    assert 2 * DEFAULT_LIMITS.tracker_window(10, config) > 250
    assert DEFAULT_LIMITS.tracker_window(10, tiny().tracker_config()) > 10_000


def test_a_budget_through_the_predictor(predictor: Sam3VideoPredictor):  # noqa: F811
    with pytest.raises(UserError, match="memory_budget is 'lots'; expected a size"):
        Sam3VideoPredictor(predictor.model, memory_budget="lots")
    with pytest.raises(ConfigError, match="memory_budget is 20 MiB, but one object at 60 x 40 pixels"):
        start(Sam3VideoPredictor(predictor.model, memory_budget="20MiB"))
    small = Sam3VideoPredictor(predictor.model, memory_budget="600MiB")
    shown = list(small.track(pictures(5), ["red circle"]))
    expected = list(predictor.track(pictures(5), ["red circle"]))
    assert [frame.ids for frame in shown] == [frame.ids for frame in expected]


@torch.no_grad()
def test_objects_without_a_pixel_for_longest_give_way(tracker):  # noqa: F811
    """At the limit, long-empty objects go; others stay, and the weakest of the new ones find no place."""
    settings = replace(SETTINGS, max_objects=100, hotstart_delay=0, hotstart_unmatched=0, hotstart_duplicate=0)
    session = make(tracker, MemoryLimits(max_objects=2), None, settings)
    state, model = session.state, session.model
    session.detect = lambda frame: detections((0.9, 0), (0.8, 20))
    first = model.step(state, 1, session.detect, session.features)
    assert (first.new_ids, first.num_dropped) == ([0, 1], 0)
    third = lambda frame: detections((0.85, 10), (0.95, 24))  # noqa: E731
    model.propagate_into = lambda state, frame, is_reverse: empty_tracks(tracker, state)
    assert model.step(state, 2, third, session.features).num_dropped == 2
    state.empty_since = {0: 9, 1: 6}
    young = model.step(state, 6 + EMPTY_FRAMES - 1, third, session.features)
    assert (young.evicted, young.new_ids) == ([], [])
    plan = model.step(state, 6 + EMPTY_FRAMES, third, session.features)
    assert (plan.evicted, plan.new_ids, plan.num_dropped) == ([1], [2], 2)
    assert sorted(state.obj_ids) == [0, 2]
    assert state.birth_scores[2] == pytest.approx(0.95)
    assert model.shown(state, 6 + EMPTY_FRAMES).num_dropped == 2


def empty_tracks(tracker, state):  # noqa: F811
    from sam3.model.video.video_model import Tracks

    side = tracker.config.low_res_size
    for session in state.sessions:
        session.step(50)
        session.tracked |= dict.fromkeys(range(60), session.tracked[50])
    count = len(state.obj_ids)
    return Tracks(list(state.obj_ids), torch.full((count, side, side), -5.0), torch.full((count,), 3.0))


def test_clicks_beyond_the_limit_are_refused(predictor: Sam3VideoPredictor):  # noqa: F811
    session = start(predictor)
    video = predictor.sessions.get(session)
    video.limits = MemoryLimits(max_objects=1)
    point = {"points": [[0.5, 0.5]], "point_labels": [1], "frame_index": 0}
    ask(predictor, session, "add_prompt", obj_id=1, **point)
    with pytest.raises(SessionError, match="1 objects are tracked and the limit is 1"):
        ask(predictor, session, "add_prompt", obj_id=2, **point)
    assert len(stream(predictor, session, propagation_direction="forward")) == 4
    ask(predictor, session, "close_session")


def test_sessions_leave_nothing_behind(predictor: Sam3VideoPredictor):  # noqa: F811
    """Starting, tracking and closing over and over: as many tensors and objects as before."""

    def once() -> None:
        session = start(predictor, resource_path=pictures(2))
        ask(predictor, session, "add_prompt", frame_index=0, text="red circle")
        stream(predictor, session, propagation_direction="forward")
        ask(predictor, session, "close_session")
        list(predictor.track(iter(pictures(2)), ["red circle"]))

    def alive() -> tuple[int, int]:
        gc.collect()
        objects = gc.get_objects()
        return sum(issubclass(type(one), torch.Tensor) for one in objects), len(objects)

    once()
    tensors, objects = alive()
    for _ in range(6):
        once()
    assert len(predictor.sessions) == 0
    now = alive()
    assert now[0] == tensors
    assert now[1] - objects < 120  # ids of closed sessions, of which messages can say why they are gone
