from itertools import count, islice

import numpy as np
import pytest
from PIL import Image

from sam3.errors import DataError, ForgottenFrameError
from sam3.io.frame_stream import FrameStream, is_live
from sam3.io.frames import open_frames


def grey(value: int, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def level(picture: Image.Image) -> float:
    return float(np.asarray(picture).mean())


def test_an_endless_stream_is_taken_as_it_is_asked_for():
    taken = []
    frames = open_frames((taken.append(index), Image.fromarray(grey(index % 200)))[1] for index in count())
    assert (frames.num_frames, frames.size, taken) == (None, (12, 16), [0])
    assert [level(frames.frame(index)) for index in (2, 0, 40)] == [2, 0, 40]
    assert taken == list(range(41))
    with pytest.raises(ForgottenFrameError, match=r"frame 8 of the stream is no longer kept; the last 32 .*9 \.\. 40"):
        frames.frame(8)
    assert level(frames.frame(9)) == 9


def test_the_end_is_found_by_looking_one_frame_ahead():
    frames = open_frames(iter([grey(1), grey(2)]))
    assert [frames.has(index) for index in (1, 2, 0)] == [True, False, True]
    with pytest.raises(DataError, match="frame 2 is outside the stream of 2 frames"):
        frames.frame(2)


def test_arrays_may_be_used_again_by_who_gave_them():
    buffer = grey(0)

    def camera():
        for index in range(3):
            buffer[:] = index
            yield buffer

    frames = FrameStream(camera())
    frames.frame(2)
    assert [level(frames.frame(index)) for index in range(3)] == [0, 1, 2]


def test_numbers_go_on_where_an_earlier_run_stopped():
    frames = open_frames(iter([grey(7), grey(8)]), first=70)
    assert level(frames.frame(71)) == 8
    with pytest.raises(ForgottenFrameError, match="frame 69 of the stream is no longer kept"):
        frames.frame(69)


def test_what_is_no_video_is_named():
    with pytest.raises(DataError, match="needs at least one frame; the stream gave none"):
        open_frames(iter([]))
    frames = open_frames(iter([grey(1), grey(2, (5, 5)), grey(3)]))
    for _ in range(2):  # what follows a wrong picture does not take its place
        with pytest.raises(DataError, match="frame 1 of the stream has 5 x 5 pixels .* the first frame 12 x 16"):
            frames.frame(1)
    with pytest.raises(DataError, match="an image must be a PIL image, an array or a tensor, got str"):
        open_frames(iter(["a.png"]))
    with pytest.raises(DataError, match="pictures one after the other; got int"):
        open_frames(3)


def test_devices_and_addresses():
    assert [is_live(name) for name in ("rtsp://host/1", "dshow:video=Cam", "C:/a.mp4", "a.mp4", "/dev/null")] == [
        True,
        True,
        False,
        False,
        True,
    ]
    with pytest.raises(DataError, match="video 'rtsp://127.0.0.1:9/nobody' cannot be read"):
        open_frames("rtsp://127.0.0.1:9/nobody")
    camera = open_frames("lavfi:testsrc2=size=64x48:rate=5")  # endless, of FFmpeg's own making
    assert (camera.size, camera.num_frames) == ((48, 64), None)
    first = np.asarray(camera.frame(0))
    assert all(camera.has(index) for index in islice(count(), 40))
    assert not np.array_equal(camera.frame(40), first)
    camera.close()
    assert not camera.has(41)
