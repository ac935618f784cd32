"""Ranges of frames against sets of frames."""

from hypothesis import given
from hypothesis import strategies as st

from sam3.model.video.coverage import Coverage


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60))
def test_ranges_hold_what_was_added(added: list[tuple[int, bool]]):
    covered = Coverage()
    for frame, is_reverse in added:
        covered.add(frame, is_reverse=is_reverse)
    for frame in range(32):
        for is_reverse in (False, True):
            assert covered.holds(frame, is_reverse=is_reverse) == ((frame, is_reverse) in added)
        anywhere = any((frame, is_reverse) in added for is_reverse in (False, True))
        assert covered.holds(frame, is_reverse=False, in_any_direction=True) == anywhere
    for ranges, is_reverse in ((covered.forward, False), (covered.backward, True)):
        frames = {frame for frame, backward in added if backward == is_reverse}
        assert len(ranges) == sum(frame - 1 not in frames for frame in frames), "neighbours are one range"


def test_a_pass_of_any_length_is_one_range():
    covered = Coverage()
    assert not covered.is_continued_by(0, is_reverse=False)
    for frame in range(10_000):
        covered.add(frame, is_reverse=False)
    assert covered.forward == [(0, 9_999)]
    assert covered.is_continued_by(10_000, is_reverse=False)
    assert not covered.is_continued_by(9_998, is_reverse=True)
