"""Frames of a video, one at a time: a folder of pictures, one picture, a list of them, a file that PyAV reads, or a
stream of unknown length (:mod:`sam3.io.frame_stream`).

Nothing is decoded before it is asked for, and little is kept. Frames are upright RGB pictures of one size.
Source: spec/tracker_video.md 8; EXIF orientation is applied and sizes are checked (its 11, 25).
"""

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence, Sized
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from sam3.errors import DataError
from sam3.io.frame_stream import FrameStream, is_live, live_pictures
from sam3.io.images import IMAGE_SUFFIXES, ImageLike, image_size, open_image, require_size, to_rgb_image

_log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"})
KEPT_FRAMES = 32  # decoded frames of a video file that are kept for a second look


@runtime_checkable
class FrameSource(Protocol):
    """Frames by number."""

    size: tuple[int, int]  # (height, width), pixels

    @property
    def num_frames(self) -> int | None: ...  # None = unknown

    def has(self, index: int) -> bool: ...  # whether there is a frame of this number

    def frame(self, index: int) -> Image.Image: ...

    def close(self) -> None: ...


VideoInput = str | Path | Iterable[ImageLike] | FrameSource


def open_frames(source: VideoInput, *, keep: int = KEPT_FRAMES, first: int = 0) -> FrameSource:
    """The frames of a folder of pictures, a picture, a list of pictures, a video file, or a stream of unknown length:
    an iterator of pictures, a device or an address (:func:`~sam3.io.frame_stream.live_pictures`). A source is left
    as it is.

    Args:
        source: pictures may be PIL images or (H, W, 3) uint8 arrays.
        keep: decoded frames of a video file or stream that are kept for a second look.
        first: number of the first picture of an iterator or device, where an earlier run has seen those before.

    Raises:
        DataError: no such source, nothing in it, or nothing that can be read; the message names it.
    """
    if isinstance(source, FrameSource):
        return source
    if isinstance(source, str | Path):
        return _opened(source, keep, first)
    if isinstance(source, Sequence | np.ndarray):
        return PictureList(source)
    if isinstance(source, Iterable):
        return FrameStream(source, keep=keep, first=first)
    raise DataError(f"a video must be a path, an address, or pictures one after the other; got {type(source).__name__}")


def _opened(source: str | Path, keep: int, first: int) -> FrameSource:
    if is_live(source):
        return FrameStream(live_pictures(source), name=f"'{source}'", keep=keep, first=first)
    path = Path(source)
    if path.is_dir():
        return PictureFiles(sorted_pictures(path))
    if not path.is_file():
        raise DataError(
            f"video source '{path}' does not exist; expected a folder of pictures, a picture or a video file"
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return PictureFiles([path])
    return VideoFile(path, keep=keep)


def sorted_pictures(folder: Path) -> list[Path]:
    """Pictures of a folder by number, or by name where a name is no number.

    Raises:
        DataError: there are none.
    """
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not files:
        raise DataError(f"folder '{folder}' holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if all(path.stem.isdecimal() for path in files):
        return sorted(files, key=lambda path: (int(path.stem), path.name))
    _log.warning("'%s': not all names are numbers; frames are in alphabetical order", folder)
    return sorted(files, key=lambda path: path.name)


class KnownFrames(Sized):
    """Frames whose number is known."""

    @property
    def num_frames(self) -> int:
        return len(self)

    def has(self, index: int) -> bool:
        """Whether there is a frame ``index``."""
        return 0 <= index < len(self)

    def close(self) -> None:
        """Nothing is held open."""


class PictureList(KnownFrames):
    """Pictures in memory."""

    def __init__(self, pictures: Sequence[ImageLike]) -> None:
        if not len(pictures):
            raise DataError("a video needs at least one frame; the list of pictures is empty")
        self._pictures = list(pictures)
        self.size = image_size(to_rgb_image(self._pictures[0]))

    def __len__(self) -> int:
        return len(self._pictures)

    def frame(self, index: int) -> Image.Image:
        """Frame ``index``, 0 .. len - 1."""
        return _checked(to_rgb_image(self._pictures[_in_range(index, len(self))]), self.size, f"frame {index}")


class PictureFiles(KnownFrames):
    """One file a frame."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.size = image_size(open_image(self.paths[0]))

    def __len__(self) -> int:
        return len(self.paths)

    def frame(self, index: int) -> Image.Image:
        """Frame ``index``, 0 .. len - 1."""
        path = self.paths[_in_range(index, len(self))]
        return _checked(open_image(path), self.size, f"frame {index} ('{path}')")


class VideoFile(KnownFrames):
    """A video file, decoded forward from the nearest key frame."""

    def __init__(self, path: Path, *, keep: int = KEPT_FRAMES) -> None:
        self.path = path
        self.keep = keep
        self.size: tuple[int, int] | None = None
        self._kept: OrderedDict[int, Image.Image] = OrderedDict()
        self._container = None
        self._next = 0  # number of the frame that the decoder gives next
        if not self._times:
            raise DataError(f"video '{path}' has no frames")
        self.size = image_size(self.frame(0))

    def __len__(self) -> int:
        return len(self._times)

    @cached_property
    def _times(self) -> list[int]:
        """Presentation time of each frame, rising; read from the packets without decoding."""
        import av

        try:
            with av.open(str(self.path)) as container:
                stream = container.streams.video[0]
                return sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        except (av.error.FFmpegError, IndexError, OSError) as error:
            raise DataError(f"video '{self.path}' cannot be read: {error}") from error

    def frame(self, index: int) -> Image.Image:
        """Frame ``index``, 0 .. len - 1."""
        _in_range(index, len(self))
        if index not in self._kept:
            self._decode_to(index)
        picture = self._kept[index]
        return _checked(picture, self.size or image_size(picture), f"frame {index} of '{self.path}'")

    def _decode_to(self, index: int) -> None:
        import av

        if self._container is None or not self._next <= index < self._next + self.keep:
            self._seek(index)
        try:
            for decoded in self._frames:
                number = self._number_of(decoded.pts)
                self._next = number + 1
                self._kept[number] = decoded.to_image()
                while len(self._kept) > self.keep:
                    self._kept.popitem(last=False)
                if number >= index:
                    break
        except av.error.FFmpegError as error:
            raise DataError(f"video '{self.path}' is damaged near frame {self._next}: {error}") from error
        if index not in self._kept:
            raise DataError(
                f"video '{self.path}': frame {index} of {len(self)} cannot be decoded; is the file complete?"
            )

    def _seek(self, index: int) -> None:
        import av

        self.close()
        self._container = av.open(str(self.path))
        stream = self._container.streams.video[0]
        self._container.seek(self._times[index], stream=stream)
        self._frames = self._container.decode(stream)
        self._next = 0

    def _number_of(self, time: int) -> int:
        from bisect import bisect_left

        return bisect_left(self._times, time)

    def close(self) -> None:
        """Let go of the file."""
        if self._container is not None:
            self._container.close()
            self._container = None


def _in_range(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise DataError(f"frame {index} is outside the video of {count} frames (0 .. {count - 1})")
    return index


def _checked(picture: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
    require_size(picture, size, name)
    return picture
