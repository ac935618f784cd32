"""The step of the video model on a small random tracker and a scripted detector."""

from dataclasses import replace

import pytest
import torch

from sam3.config import tiny
from sam3.model.tracker.tracker import Tracker, TrackerFeatures
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import Detections, VideoModel
from sam3.model.video.video_session import VideoSession
from sam3.model.video.video_state import VideoState

SIZE, SIDE = (48, 64), 32


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    torch.manual_seed(0)
    tracker = Tracker(tiny().tracker_config()).eval()
    tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(3.0)
    return tracker


def square(left: int, size: int = 8) -> torch.Tensor:
    mask = torch.full((SIDE, SIDE), -5.0)
    mask[4 : 4 + size, left : left + size] = 5.0
    return mask


def detections(*objects: tuple[float, int]) -> Detections:
    """(score, left edge) of each."""
    masks = [square(left) for _, left in objects]
    boxes = [torch.tensor([left, 4, left + 8, 12]) / SIDE for _, left in objects]
    return Detections(
        torch.tensor([score for score, _ in objects]),
        torch.stack(boxes) if boxes else torch.zeros(0, 4),
        torch.stack(masks) if masks else torch.zeros(0, SIDE, SIDE),
    )


def run(tracker: Tracker, script: dict[int, Detections], frames: int, settings: VideoSettings | None = None):
    def features(frame: int) -> TrackerFeatures:
        generator = torch.Generator().manual_seed(frame)
        return tracker.features([torch.randn(1, 32, side, side, generator=generator) for side in (32, 16, 8)])

    model = VideoModel(tracker, settings or replace(VideoSettings(), hotstart_delay=0, recondition_every=0))
    state = VideoState(SIZE, frames)
    session = VideoSession(model, lambda frame: script.get(frame, detections()), features, state, has_concept=True)
    with torch.no_grad():
        shown = list(session.propagate(0))
    return model, state, shown


def test_duplicates_and_unsure_detections_do_not_exist(tracker: Tracker):
    model = VideoModel(tracker, VideoSettings())
    kept = model.keep_best(detections((0.6, 0), (0.9, 1), (0.5, 20), (0.55, 20)))
    assert kept.scores.tolist() == pytest.approx([0.9, 0.55])
    assert len(model.keep_best(detections())) == 0


def test_objects_get_rising_ids_and_keep_them(tracker: Tracker):
    _, state, shown = run(tracker, {0: detections((0.9, 0)), 2: detections((0.95, 20))}, 4)
    assert [frame for frame, _ in shown] == [0, 1, 2, 3]
    assert shown[0][1].obj_ids == [0]
    assert shown[0][1].masks.shape == (1, *SIZE)
    assert shown[0][1].scores.tolist() == pytest.approx([0.9])
    assert state.obj_ids == [0, 1]
    assert state.birth_scores == pytest.approx({0: 0.9, 1: 0.95})


def test_the_limit_keeps_the_best(tracker: Tracker):
    settings = replace(VideoSettings(), hotstart_delay=0, max_objects=1)
    _, state, _ = run(tracker, {0: detections((0.8, 0), (0.9, 20))}, 1, settings)
    assert state.birth_scores == pytest.approx({0: 0.9})


def test_short_lived_mistakes_never_show(tracker: Tracker):
    """A detection that is never confirmed is removed before its first frame leaves."""
    settings = replace(VideoSettings(), hotstart_delay=5, hotstart_unmatched=2, hotstart_duplicate=5, occlusion_iou=0)
    _, state, shown = run(tracker, {0: detections((0.9, 0))}, 8, settings)
    assert [frame for frame, _ in shown] == list(range(8))
    unseen = state.hot_start.unmatched_frames.get(0, [])
    if len(unseen) >= 2:
        assert all(out.obj_ids == [] for _, out in shown)
        assert state.obj_ids == []
    else:  # the untrained tracker lost the object: then nothing was there to be confirmed
        assert all(out.obj_ids in ([], [0]) for _, out in shown)


def test_a_video_without_objects(tracker: Tracker):
    _, state, shown = run(tracker, {}, 3)
    assert [out.obj_ids for _, out in shown] == [[], [], []]
    assert shown[0][1].masks.shape == (0, *SIZE)
    assert state.sessions == []


def test_unconfirmed_objects_show_after_enough_detections_in_a_row(tracker: Tracker):
    """Two frames later decide: with three detections in a row, an object shows from its first one on."""
    settings = replace(VideoSettings(), hotstart_delay=3, hotstart_unmatched=3, hotstart_duplicate=3, confirmation=3)
    settings = replace(settings, recondition_every=0, association_iou=0.0)  # any detection belongs to the object
    seen = detections((0.9, 0))
    _, _, shown = run(tracker, {0: seen, 1: seen, 2: seen}, 6, settings)
    assert shown[0][1].obj_ids == [0]
    _, _, shown = run(tracker, {0: seen, 1: seen, 4: seen}, 6, settings)
    assert all(objects.obj_ids == [] for _, objects in shown)
    _, state, shown = run(tracker, {0: seen}, 6, replace(settings, confirmation=1))
    assert shown[0][1].obj_ids == [0]
    assert state.confirmation.confirmed <= {0}
