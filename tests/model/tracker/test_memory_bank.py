from dataclasses import replace

import pytest
import torch

from sam3.config import TrackerConfig
from sam3.model.tracker.memory_bank import (
    FrameMemory,
    Moment,
    closest_conditioning_frames,
    frame_score,
    recall,
    well_seen_frames,
)

CONFIG = TrackerConfig()
PLAIN = replace(CONFIG, use_memory_selection=False)


def memory(score: float | None = 1.0) -> FrameMemory:
    nothing = torch.zeros(1)
    return FrameMemory(nothing, nothing, nothing, nothing, frame_score=score)


def test_conditioning_frames_near_the_frame_on_both_sides():
    assert closest_conditioning_frames(10, [0, 3, 8], 4) == [0, 3, 8]
    assert closest_conditioning_frames(10, [0, 3, 8, 12, 20], 4) == [8, 12, 3, 0]
    assert closest_conditioning_frames(0, [5, 6, 7, 8, 9], 2) == [5, 6]
    assert closest_conditioning_frames(4, [], 4) == []


@pytest.mark.parametrize(("frame", "is_reverse"), [(0, False), (9, True)])
def test_the_first_frame_of_a_pass_remembers_nothing_recent(frame: int, is_reverse: bool):
    assert well_seen_frames(Moment(frame, 10, is_reverse), {1: 1.0, 8: 1.0}, CONFIG) == []


def test_badly_seen_frames_are_passed_over_but_the_neighbour_counts():
    scores = {1: 0.5, 2: 0.001, 3: 0.4, 4: 0.0}
    assert well_seen_frames(Moment(5, 20), scores, CONFIG) == [1, 3, 4]
    assert well_seen_frames(Moment(2, 20, is_reverse=True), {3: 0.5, 4: 0.0, 5: 0.5}, CONFIG) == [5, 3]


def test_a_pass_forward_and_its_mirror_image_remember_alike():
    forward = recall(Moment(8, 20), {0: memory(None)}, {frame: memory() for frame in range(1, 8)}, PLAIN)
    mirrored = {19 - frame: memory() for frame in range(1, 8)}
    backward = recall(Moment(11, 20, is_reverse=True), {19: memory(None)}, mirrored, PLAIN)
    assert [entry.row for entry in forward.maps] == [entry.row for entry in backward.maps] == [6, 5, 4, 3, 2, 1, 0]
    assert [p.distance for p in forward.pointers] == [p.distance for p in backward.pointers] == [8, 1, 2, 3, 4, 5, 6, 7]


def test_prompts_of_the_future_give_maps_but_no_pointers():
    found = recall(Moment(3, 20), {10: memory(None)}, {2: memory()}, PLAIN)
    assert (len(found.maps), len(found.pointers)) == (2, 1)


def test_frame_score_is_mean_presence_times_mean_quality():
    logits, ious = torch.tensor([[0.0], [-3.0], [100.0]]), torch.tensor([0.5, 0.5, 0.8])
    assert frame_score(logits, ious) == pytest.approx((1 / 3) * 0.6)
    assert frame_score(torch.tensor([[-1.0]]), torch.tensor([1.0])) == 0
