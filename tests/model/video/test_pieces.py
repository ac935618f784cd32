"""Properties of the pure pieces of the video model; their numbers are compared by ``tests.parity.tracker``."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam3.errors import ConfigError
from sam3.model.video import schedule
from sam3.model.video.association import associate, least_loaded, within_limit
from sam3.model.video.frame_output import assemble
from sam3.model.video.lifecycle import HotStart
from sam3.model.video.occlusion import NEVER, overlapping_to_blank
from sam3.model.video.settings import VideoSettings, without_heuristics

SETTINGS = VideoSettings()
FULL = schedule.Action(schedule.ActionKind.FULL)


def square(left: int, size: int = 8, side: int = 32) -> torch.Tensor:
    mask = torch.full((side, side), -5.0)
    mask[4 : 4 + size, left : left + size] = 5.0
    return mask


def stack(*masks: torch.Tensor) -> torch.Tensor:
    return torch.stack(masks) if masks else torch.zeros(0, 32, 32)


class TestAssociation:
    def test_one_object_seen_again_one_lost_one_new(self):
        found = associate(
            stack(square(0), square(20)), torch.tensor([0.9, 0.8]), stack(square(1), square(12, 6)), [7, 8], SETTINGS
        )
        assert found.matches == {0: [7], 1: []}
        assert found.new_detections == [1]
        assert (found.unmatched, found.empty, found.matched) == ([8], [], {7})

    def test_unsure_detections_open_no_object_beside_others_but_the_first_ones_do(self):
        detections, scores = stack(square(0), square(20)), torch.tensor([0.6, 0.6])
        assert associate(detections, scores, stack(), [], SETTINGS).new_detections == [0, 1]
        assert associate(detections, scores, stack(square(12, 4)), [1], SETTINGS).new_detections == []

    def test_an_empty_track_is_neither_matched_nor_unmatched(self):
        nothing = torch.full((32, 32), -1.0)
        found = associate(stack(), torch.zeros(0), stack(nothing, square(0)), [3, 4], SETTINGS)
        assert (found.empty, found.unmatched) == ([3], [4])

    def test_sizes_may_differ(self):
        large = torch.nn.functional.interpolate(square(0)[None, None], (64, 64), mode="bilinear")[0]
        assert associate(large, torch.tensor([0.9]), stack(square(0)), [1], SETTINGS).matches == {0: [1]}

    def test_the_best_new_objects_fit_the_limit(self):
        assert within_limit([0, 1, 2], torch.tensor([0.1, 0.9, 0.5]), 2) == [1, 2]
        assert within_limit([0, 1], torch.tensor([0.1, 0.9]), 2) == [0, 1]
        assert least_loaded(3, [1, 0]) == [1, 0, 1]


class TestHotStart:
    def run(self, frames: int, settings: VideoSettings = SETTINGS, **given) -> list[set[int]]:
        state = HotStart()
        state.update(0, new=[1, 2], matches={}, unmatched=[], empty=[], settings=settings)
        arguments = {"new": [], "matches": {}, "unmatched": [], "empty": []} | given
        return [state.update(frame, settings=settings, **arguments)[0] for frame in range(1, frames)]

    def test_an_object_unseen_eight_times_while_young_goes_once(self):
        removed = self.run(20, unmatched=[2])
        assert [frame for frame, ids in enumerate(removed, 1) if ids] == [8]
        assert removed[7] == {2}

    def test_the_younger_of_two_on_one_detection_goes(self):
        state = HotStart()
        state.update(0, new=[5], matches={}, unmatched=[], empty=[], settings=SETTINGS)
        state.update(1, new=[6], matches={}, unmatched=[], empty=[], settings=SETTINGS)
        gone = [
            state.update(f, new=[], matches={0: [5, 6]}, unmatched=[], empty=[], settings=SETTINGS)[0]
            for f in range(2, 12)
        ]
        assert gone[7] == {6}
        assert 5 not in state.removed

    def test_who_a_person_vouches_for_stays(self):
        counts = HotStart()
        given = {"matches": {}, "unmatched": [4], "empty": [], "settings": SETTINGS, "exempt": {4: None}}
        for frame in range(14):
            assert counts.update(frame, new=[4] if not frame else [], **given) == (set(), set())
        assert counts.removed == set()

    def test_old_objects_stay(self):
        late = HotStart()
        late.update(0, new=[1], matches={}, unmatched=[], empty=[], settings=SETTINGS)
        for frame in range(16, 60):
            removed, _ = late.update(frame, new=[], matches={}, unmatched=[1], empty=[], settings=SETTINGS)
            assert not removed

    def test_forgetting_leaves_no_trace(self):
        state = HotStart()
        state.update(0, new=[1, 2], matches={0: [1, 2]}, unmatched=[1, 2], empty=[], settings=SETTINGS)
        state.forget(2)
        assert (state.shared, list(state.first_frame), list(state.unmatched_frames)) == ({}, [1], [1])

    def test_only_what_still_decides_is_kept(self):
        state = HotStart(removed={9})
        arguments = {"matches": {0: [1, 2]}, "unmatched": [1, 2], "empty": [], "settings": SETTINGS}
        for frame in range(40):
            state.update(frame, new=[1, 2, 9] if not frame else [], **arguments)
            state.keep_only({1, 2}, SETTINGS)
        assert (set(state.first_frame), state.removed - {1, 2}) == ({1, 2}, set())
        assert max(map(len, [*state.unmatched_frames.values(), *state.shared.values()])) == 8
        state.keep_only({1}, SETTINGS)
        assert (set(state.unmatched_frames), set(state.keep_alive), state.shared) == ({1}, {1}, {})

    def test_removals_must_come_before_the_output(self):
        with pytest.raises(ConfigError, match="must not exceed hotstart_delay"):
            replace(SETTINGS, hotstart_delay=5)
        assert without_heuristics().hotstart_delay == 0


class TestOcclusion:
    masks = stack(square(0), square(1), square(20)) > 0

    def test_the_one_occluded_later_gives_way(self):
        assert overlapping_to_blank(self.masks, [3, 5, NEVER], 0.7).tolist() == [False, True, False]
        assert overlapping_to_blank(self.masks, [3, 5, NEVER], 0.7, is_reverse=True).tolist() == [True, False, False]

    @pytest.mark.parametrize("is_reverse", [False, True])
    def test_who_was_never_occluded_does_not_give_way(self, is_reverse: bool):
        assert not overlapping_to_blank(self.masks, [NEVER, 5, 5], 0.7, is_reverse=is_reverse)[0]
        assert not overlapping_to_blank(self.masks, [NEVER, NEVER, NEVER], 0.7, is_reverse=is_reverse).any()

    def test_one_object_has_nobody_to_give_way_to(self):
        assert overlapping_to_blank(self.masks[:1], [4], 0.7).tolist() == [False]
        assert overlapping_to_blank(self.masks[:0], [], 0.7).shape == (0,)


class TestFrameOutput:
    def test_objects_without_pixels_do_not_show(self):
        masks = {9: square(0) > 0, 2: square(0) > 0, 4: torch.zeros(32, 32, dtype=torch.bool)}
        shown = assemble(masks, dict.fromkeys(masks, 0.5), {9: 0.9, 2: 0.4}, size=(32, 32))
        assert shown.obj_ids == [9]
        assert shown.boxes_xywh[0].tolist() == [0, 0.125, 0.25, 0.25]
        as_reference = assemble(
            masks, dict.fromkeys(masks, 0.5), {9: 0.9, 2: 0.4}, size=(32, 32), drop_emptied=False, inclusive_boxes=True
        )
        assert as_reference.obj_ids == [2, 9]
        assert as_reference.boxes_xywh[0].tolist() == [0, 0.125, 7 / 32, 7 / 32]

    def test_nothing(self):
        shown = assemble({}, {}, {}, size=(5, 7))
        assert (shown.obj_ids, tuple(shown.masks.shape), tuple(shown.boxes_xywh.shape)) == ([], (0, 5, 7), (0, 4))


class TestSchedule:
    @given(st.integers(0, 20), st.integers(0, 30))
    def test_everything_leaves_once_and_in_order(self, delay: int, count: int):
        buffer: schedule.DelayBuffer[int] = schedule.DelayBuffer(delay)
        left = [item for frame in range(count) for item in buffer.push(frame, is_last=frame == count - 1)]
        assert left == list(range(count))

    @given(st.integers(0, 12), st.integers(13, 20), st.none() | st.integers(0, 25), st.booleans(), st.integers(0, 5))
    def test_a_pass_goes_over_the_frames_of_the_order(self, start, frames, limit, is_reverse, delay):
        order = schedule.video_order(start, frames, limit=limit, is_reverse=is_reverse)
        known = schedule.Pass.over(FULL, start, frames, limit=limit, is_reverse=is_reverse, delay=delay)
        unknown = schedule.Pass.over(FULL, start, None, limit=limit, is_reverse=is_reverse, delay=delay)
        for under_way, has_frame in ((known, None), (unknown, lambda frame: frame < frames)):
            done, left = [], []
            while under_way.next_frame is not None:
                done.append(under_way.next_frame)
                under_way.advance(has_frame)
                while under_way.ready:
                    left.append(under_way.ready.popleft())
                assert under_way.waiting == set(done) - set(left)
            assert done == left == order

    @pytest.mark.parametrize("is_reverse", [False, True])
    def test_who_joins_a_pass_begins_with_what_was_not_handed_out(self, is_reverse: bool):
        under_way = schedule.Pass.over(FULL, 10, 30, is_reverse=is_reverse, delay=3)
        assert under_way.joined(0).next_frame == (9 if is_reverse else 10)
        for _ in range(4):
            under_way.advance()
        under_way.ready.clear()  # two frames were handed out
        joined = under_way.joined(delay=7)
        assert joined.next_frame == (7 if is_reverse else 12)
        assert (joined.last_frame, joined.delayed.delay) == (under_way.last_frame, 7)
        assert [under_way.owes(frame) for frame in (joined.next_frame, 9 if is_reverse else 10)] == [True, False]

    def test_what_a_history_forgets_decides_nothing(self):
        kinds = schedule.ActionKind
        history = [schedule.Action(kinds.ADD, 0, (1,)), schedule.Action(kinds.FULL), schedule.Action(kinds.REMOVE)]
        for _ in range(5):
            history += [schedule.Action(kinds.REFINE, 3, (2,)), schedule.next_propagation(history, 10)]
            assert schedule.next_propagation(history, None) == schedule.next_propagation(
                schedule.shortened(history), None
            )
        assert len(schedule.shortened(history)) == 3

    @given(st.integers(1, 40), st.integers(1, 8), st.data())
    def test_chunks_cover_the_video_once(self, frames: int, size: int, data: st.DataObject):
        chunks = {schedule.detection_chunk(frame, frames, size) for frame in range(frames)}
        assert sorted(frame for chunk in chunks for frame in chunk) == list(range(frames))

    def test_after_a_click_only_that_object_is_tracked(self):
        kinds = schedule.ActionKind
        history = [schedule.Action(kinds.FULL), schedule.Action(kinds.REFINE, 3, (2,))]
        assert schedule.next_propagation(history, 10) == schedule.Action(kinds.PARTIAL, obj_ids=(2,))
