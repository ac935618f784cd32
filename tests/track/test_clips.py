"""Which videos a source stands for."""

from pathlib import Path

import pytest

from sam3.errors import DataError
from sam3.track.clips import list_clips, source_stamp
from tests.track.conftest import write_frames


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "all"
    write_frames(root / "frames", 2)
    write_frames(root / "deep" / "ünder", 1)
    for name in ("b.MP4", "a.mov", ".hidden.mp4", "notes.txt"):
        (root / "clips" / name).parent.mkdir(exist_ok=True)
        (root / "clips" / name).write_bytes(b"x")
    return root


def names(*sources: Path, **options) -> list[str]:
    return [clip.name for clip in list_clips(sources, **options)]


def stamp(path: Path) -> list[int]:
    return source_stamp(*list_clips([path]))


def test_files_folders_of_frames_and_folders_of_videos(tree: Path):
    assert names(tree / "frames") == ["frames"]
    assert names(tree / "clips") == ["a", "b"]
    assert names(tree / "clips" / "b.MP4", tree / "clips") == ["b", "a"], "each once"
    assert names(tree, recursive=True) == ["clips/a", "clips/b", "deep/ünder", "frames"]
    assert names(tree, recursive=True, exclude=tree / "deep") == ["clips/a", "clips/b", "frames"]


def test_what_is_no_video_is_named(tree: Path):
    with pytest.raises(DataError, match="no such file or folder"):
        names(tree / "nowhere.mp4")
    with pytest.raises(DataError, match="holds neither frames .* nor videos .*; 3 of its sub-folders do: add --rec"):
        names(tree)
    with pytest.raises(DataError, match="one picture, not a video; sam3 predict"):
        names(tree / "frames" / "0.png")


def test_what_is_live_keeps_its_address_and_hides_its_password():
    (clip,) = list_clips(["rtsp://me:secret@cam.local:554/stream 1"])
    assert (clip.source, clip.name, clip.is_live) == (
        "rtsp://me:secret@cam.local:554/stream 1",
        "rtsp-cam.local-554-stream-1",
        True,
    )


def test_the_stamp_changes_with_the_frames(tree: Path):
    before = stamp(tree / "frames")
    assert stamp(tree / "frames") == before
    write_frames(tree / "frames", 3)
    assert stamp(tree / "frames") != before
    assert stamp(tree / "clips" / "a.mov")[:2] == [1, 1]
