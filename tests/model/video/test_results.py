import pytest
import torch

from sam3.errors import ForgottenFrameError
from sam3.model.video.results import FrameResult, Results


def mask(*rows: str) -> torch.Tensor:
    return torch.tensor([[letter == "1" for letter in row] for row in rows])


def filled(frames: int) -> Results:
    results = Results((2, 3))
    for frame in range(frames):
        results.put(frame, {frame: mask("010", "110")}, FrameResult({}, {frame: 0.5}))
    return results


def test_masks_come_back():
    results = Results((2, 3))
    first, second = mask("010", "110"), mask("000", "000")
    results.put(4, {7: first, 2: second}, FrameResult({}, {7: 0.5, 2: 0.1}, {2}))
    found = results.masks(4)
    assert torch.equal(found[7], first)
    assert torch.equal(found[2], second)
    assert results.at(4).hidden == {2}
    results.unhide(2)
    assert results.at(4).hidden == set()


def test_the_first_frames_go_first_and_those_that_wait_stay():
    results = filled(10)
    each = results.num_bytes // 10
    results.trim(each * 4, waiting={0, 1})
    assert sorted(results.frames) == [0, 1, 8, 9]
    assert set(results.obj_ids) == {0, 1, 8, 9}
    assert results.num_bytes == each * 4
    with pytest.raises(ForgottenFrameError, match=r"results of frame 5 are no longer kept \(kept: frames 0 .. 9\)"):
        results.masks(5)
    results.require(10)  # was never worked off
    results.trim(0)
    assert (len(results), results.num_bytes, set(results.obj_ids)) == (0, 0, set())


def test_what_is_counted_follows_every_change():
    results = filled(3)
    results.put_object(1, 9, mask("111", "111"), 1.0)
    results.put(2, {}, FrameResult({}, {}))
    results.remove_object(0)
    assert results.num_bytes == sum(result.num_bytes for result in results.frames.values())
    assert set(results.obj_ids) == {1, 9}
    assert list(results.frames) == [0, 1, 2]
    again = Results((2, 3), results.frames)
    assert (again.num_bytes, set(again.obj_ids)) == (results.num_bytes, {1, 9})
