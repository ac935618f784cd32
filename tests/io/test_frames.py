from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3.errors import DataError
from sam3.io.frames import KEPT_FRAMES, open_frames
from tests.data.preparation.test_silver_videos import write_video


def grey(value: int, size: tuple[int, int] = (12, 16)) -> Image.Image:
    return Image.fromarray(np.full((*size, 3), value, np.uint8))


def level(picture: Image.Image) -> float:
    return float(np.asarray(picture).mean())


def test_pictures_are_ordered_by_number(tmp_path: Path):
    for name, value in (("10.png", 30), ("2.png", 20), ("1.png", 10)):
        grey(value).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    frames = open_frames(tmp_path)
    assert len(frames) == 3
    assert frames.size == (12, 16)
    assert [level(frames.frame(index)) for index in (2, 0, 1)] == [30, 10, 20]


def test_other_names_are_ordered_by_alphabet(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name, value in (("b.png", 20), ("ä.png", 30), ("10.png", 10)):
        grey(value).save(tmp_path / name)
    frames = open_frames(tmp_path)
    assert [level(frames.frame(index)) for index in range(3)] == [10, 20, 30]
    assert "not all names are numbers" in caplog.text


def test_one_picture_and_a_list_of_pictures(tmp_path: Path):
    grey(7).save(tmp_path / "a.png")
    source = open_frames(tmp_path / "a.png")
    assert len(source) == 1
    assert open_frames(source) is source
    frames = open_frames([grey(1), grey(2)])
    assert (len(frames), level(frames.frame(1))) == (2, 2)


def test_a_video_gives_any_frame_in_any_order(tmp_path: Path):
    write_video(tmp_path / "Vidéo.mp4", frames=12)
    frames = open_frames(tmp_path / "Vidéo.mp4")
    assert (len(frames), frames.size) == (12, (48, 64))
    order = [5, 0, 11, 3, 2, 1, 10, 0]
    assert [round(level(frames.frame(index)) / 20) for index in order] == order


def test_few_frames_of_a_video_are_kept(tmp_path: Path):
    write_video(tmp_path / "v.mp4", frames=KEPT_FRAMES + 20)
    frames = open_frames(tmp_path / "v.mp4")
    for index in range(len(frames)):
        frames.frame(index)
    assert len(frames._kept) == KEPT_FRAMES
    for index in reversed(range(len(frames))):
        frames.frame(index)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nothing.mp4", "does not exist; expected a folder"),
        (lambda folder: folder, "holds no pictures"),
        (lambda folder: [], "needs at least one frame"),
    ],
)
def test_sources_that_are_none(tmp_path: Path, make, message: str):
    with pytest.raises(DataError, match=message):
        open_frames(make(tmp_path))


def test_damage_and_changing_sizes_are_named(tmp_path: Path):
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    with pytest.raises(DataError, match=r"bad\.mp4' cannot be read"):
        open_frames(tmp_path / "bad.mp4")
    frames = open_frames([grey(1), grey(2, (5, 5))])
    with pytest.raises(DataError, match="frame 1 has 5 x 5 pixels .* the first frame 12 x 16"):
        frames.frame(1)
    with pytest.raises(DataError, match="frame 2 is outside the video of 2 frames"):
        frames.frame(2)
