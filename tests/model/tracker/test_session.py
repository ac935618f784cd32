"""Sessions on a small random tracker; recorded sessions are compared by ``tests.parity.tracker``."""

import pytest
import torch

from sam3.config import tiny
from sam3.errors import DataError, UserError
from sam3.model.tracker.session import TrackerSession
from sam3.model.tracker.tracker import Tracker, TrackerFeatures

SIZE = (40, 60)


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    torch.manual_seed(0)
    tracker = Tracker(tiny().tracker_config()).eval()
    tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(3.0)  # objects are there
    return tracker


def session(tracker: Tracker, num_frames: int = 6) -> TrackerSession:
    @torch.no_grad()
    def features(frame: int) -> TrackerFeatures:
        generator = torch.Generator().manual_seed(frame)
        return tracker.features([torch.randn(1, 32, side, side, generator=generator) for side in (32, 16, 8)])

    return TrackerSession(tracker, features, SIZE, num_frames)


def mask(left: int, right: int) -> torch.Tensor:
    made = torch.zeros(SIZE)
    made[10:30, left:right] = 1
    return made


@torch.no_grad()
def test_clicks_and_boxes_answer_at_once_and_are_tracked_to_the_end(tracker: Tracker):
    tracked = session(tracker)
    tracked.add_points(1, 7, torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
    tracked.add_points(1, 3, box=torch.tensor([0.1, 0.1, 0.4, 0.6]))
    assert tracked.video_masks(1).shape == (2, 1, *SIZE)
    tracked.consolidate()
    frames = list(tracked.propagate())
    assert [out.frame for out in frames] == [1, 2, 3, 4, 5]
    assert frames[0].obj_ids == [7, 3]
    assert all(torch.isfinite(out.low_res_masks).all() for out in frames)
    assert [out.frame for out in tracked.propagate(3, limit=1, is_reverse=True)] == [3, 2]


@torch.no_grad()
def test_a_given_mask_takes_its_pixels_from_the_others(tracker: Tracker):
    tracked = session(tracker)
    tracked.add_mask(0, 1, mask(0, 40))
    tracked.add_mask(0, 2, mask(20, 60))
    first, second = tracked.video_masks(0)[:, 0] > 0
    assert torch.equal(second, mask(20, 60) > 0)
    assert torch.equal(first, mask(0, 20) > 0)


@torch.no_grad()
def test_removing_one_object_leaves_the_others_as_they_were(tracker: Tracker):
    tracked = session(tracker)
    tracked.add_mask(0, 1, mask(0, 20))
    tracked.add_mask(0, 2, mask(30, 50))
    tracked.consolidate()
    before = {out.frame: out.low_res_masks[1] for out in tracked.propagate()}
    tracked.remove(1)
    tracked.remove(99)
    assert tracked.obj_ids == [2]
    for frame, masks in before.items():
        entry = tracked.conditioning.get(frame) or tracked.tracked[frame]
        assert torch.equal(entry.low_res_masks[0], masks)
        assert len(entry.memory) == len(entry.pointers) == 1
    tracked.remove(2)
    assert (tracked.obj_ids, tracked.conditioning, tracked.tracked, tracked.visited) == ([], {}, {}, {})


@torch.no_grad()
def test_objects_prompted_on_different_frames(tracker: Tracker):
    tracked = session(tracker)
    tracked.add_mask(0, 1, mask(0, 20))
    tracked.add_mask(2, 2, mask(30, 50))
    tracked.consolidate()
    assert sorted(tracked.conditioning) == [0, 2]
    scores = tracked.conditioning[0].object_score_logits.flatten().tolist()
    assert scores == [10, -10], "an object without an answer is remembered as absent"


@torch.no_grad()
def test_too_many_clicks_keep_the_first_and_the_last(tracker: Tracker):
    tracked = session(tracker)
    points = torch.rand(30, 2)
    tracked.add_points(0, 1, points, torch.ones(30))
    kept = tracked.prompts[0][0].points[0] / tracker.config.image_size
    assert torch.allclose(kept, torch.cat([points[:8], points[-8:]]), atol=1e-6)


@torch.no_grad()
def test_earlier_clicks_and_boxes_count_on_when_asked(tracker: Tracker):
    tracked = session(tracker)
    box, click, other = torch.tensor([0.1, 0.1, 0.6, 0.7]), torch.tensor([[0.25, 0.5]]), torch.tensor([[0.75, 0.25]])
    one = torch.tensor([1])

    def said() -> list[tuple[list[float], int]]:
        prompt, side = tracked.prompts[0][0], tracker.config.image_size
        places = (prompt.points[0] / side).mul(100).round().div(100).tolist()
        return list(zip(places, prompt.labels[0].tolist(), strict=True))

    corners = [(pytest.approx([0.1, 0.1]), 2), (pytest.approx([0.6, 0.7]), 3)]
    first, second = (pytest.approx([0.25, 0.5]), 1), (pytest.approx([0.75, 0.25]), 1)
    tracked.add_points(0, 1, click, one, box=box)
    assert said() == [*corners, first]
    tracked.add_points(0, 1, other, one, keep_points=True, keep_box=True)
    assert said() == [*corners, first, second]
    tracked.add_points(0, 1, box=box, keep_points=True, keep_box=True)
    assert said() == [*corners, first, second], "a new box replaces the old one"
    with pytest.raises(DataError, match="contradictory clicks"):
        tracked.add_points(0, 1, click, torch.tensor([0]), keep_points=True)
    assert said() == [*corners, first, second]
    tracked.add_points(0, 1, click, one, keep_box=True)
    assert said() == [*corners, first]
    tracked.add_points(0, 1, other, one)
    assert said() == [second]


@torch.no_grad()
def test_wrong_prompts_are_named(tracker: Tracker):
    tracked = session(tracker)
    with pytest.raises(DataError, match="give both or neither"):
        tracked.add_points(0, 1, torch.rand(1, 2))
    with pytest.raises(DataError, match="needs points with labels, or a box"):
        tracked.add_points(0, 1)
    with pytest.raises(DataError, match="3 points need as many labels, got 2"):
        tracked.add_points(0, 1, torch.rand(3, 2), torch.ones(2))
    place = torch.tensor([[0.25, 0.5], [0.25, 0.5]])
    with pytest.raises(DataError, match=r"contradictory clicks: the point \(0.25, 0.5\) is labelled 1 and 0"):
        tracked.add_points(0, 1, place, torch.tensor([1, 0]))
    assert tracked.obj_ids == []
    with pytest.raises(UserError, match="nothing to track"):
        next(tracked.propagate())
    tracked.add_mask(0, 1, mask(0, 20))
    tracked.consolidate()
    list(tracked.propagate())
    with pytest.raises(UserError, match="object 5 is new"):
        tracked.add_mask(0, 5, mask(0, 20))
