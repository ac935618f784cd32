"""Which videos a run is about: files, folders of frames, folders of either, cameras and streams."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam3.errors import DataError
from sam3.io.frame_stream import is_live
from sam3.io.frames import VIDEO_SUFFIXES
from sam3.io.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Clip:
    """A video and the name its results would like to have."""

    source: str  # absolute path of a video file or a folder of frames; of what is live, the address as given
    name: str  # relative to the folder that was given, "/" between folders
    is_live: bool = False  # a camera or a stream: its frames come once

    @property
    def path(self) -> Path:
        return Path(self.source)


def list_clips(sources: Sequence[str | Path], *, recursive: bool = False, exclude: Path | None = None) -> list[Clip]:
    """Each video once; what a folder holds comes in sorted order.

    Args:
        sources: video files, folders of frames, folders of video files, addresses of cameras and streams.
        recursive: look into sub-folders, too; those with frames are videos.
        exclude: a folder never looked into (the run's own output).

    Raises:
        DataError: a source does not exist or holds no video.
    """
    found: dict[str, Clip] = {}
    for given in sources:
        for clip in _clips_of(given, recursive, exclude):
            found.setdefault(clip.source, clip)
    return list(found.values())


def source_stamp(clip: Clip) -> list[int]:
    """What changes when a video does: number of files, bytes, time of the last change; nothing of what is live."""
    if clip.is_live:
        return []
    path = clip.path
    files = [path] if path.is_file() else [file for file in path.iterdir() if _is_picture(file)]
    states = [file.stat() for file in files]
    return [len(files), sum(state.st_size for state in states), max((s.st_mtime_ns for s in states), default=0)]


def _clips_of(source: str | Path, recursive: bool, exclude: Path | None) -> list[Clip]:
    if is_live(source):
        return [Clip(str(source), _name_of_address(str(source)), is_live=True)]
    given = Path(source)
    if given.is_file():
        if given.suffix.lower() in IMAGE_SUFFIXES:
            raise DataError(f"{given} is one picture, not a video; sam3 predict finds objects in pictures")
        return [Clip(str(_absolute(given)), given.stem)]
    if not given.is_dir():
        raise DataError(f"{given}: there is no such file or folder")
    places = list(_folders(given, exclude)) if recursive else [given]
    clips = [clip for place in places for clip in _clips_in(place, given)]
    if not clips:
        inside = sum(bool(_clips_in(place, given)) for place in _folders(given, exclude)) if not recursive else 0
        hint = f"; {inside} of its sub-folders do: add --recursive" if inside else ""
        raise DataError(
            f"{given} holds neither frames ({', '.join(sorted(IMAGE_SUFFIXES))}) nor videos "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}){hint}"
        )
    return clips


def _name_of_address(address: str) -> str:
    """A folder's name; what may be a password does not get into it."""
    return re.sub(r"[^\w.]+", "-", re.sub(r"://[^/@]*@", "://", address)).strip("-.")[:80]


def _clips_in(place: Path, root: Path) -> list[Clip]:
    """The video files of a folder, or the folder itself where it holds frames."""
    files = sorted(file for file in place.iterdir() if file.is_file() and not file.name.startswith("."))
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    if videos:
        return [Clip(str(_absolute(file)), file.relative_to(root).with_suffix("").as_posix()) for file in videos]
    if any(_is_picture(file) for file in files):
        below = place.relative_to(root).as_posix()
        return [Clip(str(_absolute(place)), _absolute(place).name if below == "." else below)]
    return []


def _folders(root: Path, exclude: Path | None) -> Iterator[Path]:
    """``root`` and what lies below, sorted, without hidden folders and ``exclude``."""
    barred = exclude.resolve() if exclude is not None else None
    for place, inner, _ in os.walk(root):
        inner[:] = sorted(n for n in inner if not n.startswith(".") and (Path(place) / n).resolve() != barred)
        yield Path(place)


def _is_picture(file: Path) -> bool:
    return not file.name.startswith(".") and file.suffix.lower() in IMAGE_SUFFIXES


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))
