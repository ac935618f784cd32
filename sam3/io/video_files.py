"""Video files written frame by frame, and how fast a video file plays."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from sam3.errors import DataError

CODECS = ("libx264", "mpeg4")  # the first that this PyAV can write
_OPTIONS = {"libx264": {"crf": "20", "preset": "veryfast", "threads": "1"}, "mpeg4": {"qscale": "3"}}
_MAX_RATE_TERM = 65_535  # what MPEG-4 keeps of a frame rate


def frame_rate(path: str | Path) -> Fraction | None:
    """Mean frames per second of a video file; ``None`` where there is none to be read (a folder of pictures)."""
    import av

    if not Path(path).is_file():
        return None
    try:
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate
    except (av.error.FFmpegError, IndexError, OSError):
        return None
    return Fraction(rate) if rate else None


class Mp4Writer:
    """An MP4 file that every player shows; use it as a context manager.

    Args:
        path: written at once; see :func:`sam3.io.files.atomic_path` for whole files.
        rate: frames per second.
        codec: left out, the first of :data:`CODECS` that is there.
    """

    def __init__(self, path: str | Path, rate: Fraction, codec: str | None = None) -> None:
        self.path = Path(path)
        self.rate = _writable_rate(rate)
        self.codec = codec or _first_codec()
        self._container = None
        self._stream = None

    def __enter__(self) -> "Mp4Writer":
        import av

        self._container = av.open(str(self.path), "w", format="mp4", options={"movflags": "faststart"})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._stream is not None and kind is None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def write(self, picture: Image.Image) -> None:
        """Append an RGB picture; all of one size. An odd side is made even by repeating its last pixels."""
        import av

        if self._stream is None:
            self._stream = self._container.add_stream(self.codec, rate=self.rate, options=_OPTIONS[self.codec])
            self._stream.width, self._stream.height = (side + side % 2 for side in picture.size)
            self._stream.pix_fmt = "yuv420p"
        pixels = np.asarray(picture)
        pixels = np.pad(pixels, [(0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)], mode="edge")
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))


def _first_codec() -> str:
    import av

    for name in CODECS:
        try:
            av.codec.Codec(name, "w")
            return name
        except av.error.FFmpegError:
            continue
    raise DataError(f"this PyAV can write none of {', '.join(CODECS)}; install the wheel of 'av', or pass --no-overlay")


def _writable_rate(rate: Fraction) -> Fraction:
    """``rate``, or the nearest one that the file can hold."""
    if max(rate.numerator, rate.denominator) <= _MAX_RATE_TERM:
        return rate
    return max(Fraction(round(rate * 100), 100), Fraction(1, 100))
