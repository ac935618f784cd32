"""Frames of unknown number: an iterator of pictures, a camera, a network address. The last ones are kept.

The end is found by looking one frame ahead; nothing is decoded further ahead than it is asked for.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from sam3.errors import DataError, ForgottenFrameError
from sam3.io.images import ImageLike, image_size, require_size, to_rgb_image

DEVICE_FORMATS = ("v4l2", "avfoundation", "dshow", "x11grab", "lavfi")  # devices by name: FORMAT:NAME


class FrameStream:
    """
    Args:
        pictures: PIL images or (H, W, 3) uint8 arrays, one a frame; taken when they are asked for.
        name: for messages.
        keep: frames that are kept for a second look.
        first: number of the first picture, where an earlier run has seen the ones before.
    """

    num_frames = None  # unknown, also after the end was seen: what follows from the length must not change on the way

    def __init__(
        self, pictures: Iterable[ImageLike], *, name: str = "the stream", keep: int = 32, first: int = 0
    ) -> None:
        self.name = name
        self.keep = keep
        self._pictures = iter(pictures)
        self._kept: dict[int, Image.Image] = {}
        self._next = first
        self._failure: DataError | None = None
        self._has_ended = False
        self.size: tuple[int, int] | None = None
        if not self.has(first):
            raise DataError(f"a video needs at least one frame; {name} gave none")

    def has(self, index: int) -> bool:
        """Whether there is a frame ``index``; takes pictures up to it."""
        while index >= self._next and not self._has_ended:
            self._take()
        return 0 <= index < self._next

    def frame(self, index: int) -> Image.Image:
        """Frame ``index``.

        Raises:
            ForgottenFrameError: it is not among the frames that are kept.
            DataError: it lies behind the end, or has another size than the first one.
        """
        if not self.has(index):
            raise DataError(f"frame {index} is outside {self.name} of {self._next} frames")
        if index not in self._kept:
            raise ForgottenFrameError(
                f"frame {index} of {self.name} is no longer kept; the last {len(self._kept)} frames are "
                f"({min(self._kept)} .. {self._next - 1}). Record the video to a file to go back in it"
            )
        return self._kept[index]

    def close(self) -> None:
        """Let go of the pictures and of where they come from."""
        self._kept.clear()
        self._has_ended = True
        if hasattr(self._pictures, "close"):
            self._pictures.close()

    def _take(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            picture = next(self._pictures)
        except StopIteration:
            self._has_ended = True
            return
        try:
            picture = to_rgb_image(picture)
            self.size = self.size or image_size(picture)
            require_size(picture, self.size, f"frame {self._next} of {self.name}")
        except DataError as error:
            self._failure = error  # a stream cannot be taken up behind a picture that is no frame
            raise
        self._kept[self._next] = picture
        self._next += 1
        while len(self._kept) > self.keep:
            del self._kept[next(iter(self._kept))]


def is_live(source: str | Path) -> bool:
    """Whether a text names a device or an address, whose frames come as they come."""
    text = str(source)
    return "://" in text or text.partition(":")[0] in DEVICE_FORMATS or Path(text).is_char_device()


def live_pictures(source: str | Path) -> Iterator[Image.Image]:
    """Pictures of a device (``/dev/video0``, ``dshow:video=NAME``) or an address (``rtsp://...``) that PyAV opens.

    Raises:
        DataError: it cannot be opened, or breaks off.
    """
    import av

    kind, _, name = str(source).partition(":")
    if kind not in DEVICE_FORMATS:
        kind, name = ("v4l2" if Path(source).is_char_device() else None), str(source)
    try:
        with av.open(name, format=kind) as container:
            for decoded in container.decode(video=0):
                yield decoded.to_image()
    except (av.error.FFmpegError, IndexError, OSError, ValueError) as error:
        raise DataError(f"video '{source}' cannot be read: {error}") from error
