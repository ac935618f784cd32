"""What a picture file itself says: size, EXIF orientation, whether it decodes, and what it can be recognised by.

A file is read once. Its bytes give the digest (equal files), its header size and orientation, its pixels show a
truncated file and give a thumbnail (equal pictures in different files).
"""

import hashlib
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sam3.io.images import open_image, reason_unreadable

_ORIENTATION = 0x0112  # EXIF tag
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_THUMBNAIL = 16  # cells a side
_SAME_CELL = 6  # of 255: grey thumbnails of one picture differ by no more in any cell
_CLOSE_UP = 128  # cells a side of the second look at most; in small pictures a cell is at least 4 pixels wide
_SAME_CLOSE_UP = 20  # of 255
_COLOUR_CELLS = 8  # a side; compression blurs colours more than brightness


@dataclass(frozen=True)
class Picture:
    """One file; sizes are (height, width)."""

    path: Path
    problem: str | None = None  # why it cannot be decoded
    is_missing: bool = False
    stored: tuple[int, int] = (0, 0)  # of the pixels as they are stored
    orientation: int = 1  # EXIF; 1 = upright
    digest: str = ""
    thumbnail: np.ndarray | None = None  # (16, 16) uint8, grey, upright

    @property
    def is_usable(self) -> bool:
        return self.problem is None and not self.is_missing

    @property
    def size(self) -> tuple[int, int]:
        """As it is shown, and as training sees it."""
        return self.stored[::-1] if self.orientation in _TURNED else self.stored


def read_pictures(paths: Sequence[Path], *, decode: bool = True, workers: int = 1) -> Iterator[Picture]:
    """The pictures in the order of ``paths``, a few files at a time in memory.

    Args:
        decode: False reads headers only: truncated files and re-encoded copies stay unseen.
        workers: threads; decoding runs outside Python's lock.
    """
    if workers <= 1:
        yield from (read_picture(path, decode=decode) for path in paths)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda path: read_picture(path, decode=decode), paths)


def read_picture(path: Path, *, decode: bool = True) -> Picture:
    """Look at one file; whatever is wrong with it is said, not raised."""
    if not path.is_file():
        return Picture(path, is_missing=True)
    try:
        data = path.read_bytes()
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")  # of damaged EXIF data and of very large pictures
            exif = image.getexif() if decode else Image.Image.getexif(image)  # a PNG's own method decodes it
            orientation = exif.get(_ORIENTATION, 1)
            stored = (image.height, image.width)
            thumbnail = _thumbnail(image, orientation) if decode else None
    except Exception as error:  # decoders raise almost anything on damaged files
        return Picture(path, problem=reason_unreadable(error))
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return Picture(path, None, False, stored, orientation if orientation in range(1, 9) else 1, digest, thumbnail)


def near_duplicates(first: Iterable[Picture], second: Iterable[Picture]) -> Iterator[tuple[Picture, Picture]]:
    """Pairs that show the same picture in different files: encoded anew, or resized.

    Candidates agree in every cell of a small grey thumbnail; they are opened again and must agree in finer cells and
    in colour, too, so that photographs of one fixed camera with a small thing changed are not taken for copies.
    """
    others = sorted((picture for picture in second if picture.thumbnail is not None), key=_brightness)
    if not others:
        return
    levels = np.array([_brightness(picture) for picture in others])
    cells = np.stack([picture.thumbnail.reshape(-1) for picture in others]).astype(np.int16)
    for picture in first:
        if picture.thumbnail is None:
            continue
        level = _brightness(picture)
        start, stop = np.searchsorted(levels, [level - _SAME_CELL, level + _SAME_CELL])
        distance = np.abs(cells[start:stop] - picture.thumbnail.reshape(-1).astype(np.int16)).max(1, initial=0)
        for index in np.flatnonzero(distance <= _SAME_CELL):
            other = others[start + index]
            if other.digest != picture.digest and _same_shape(picture, other) and _same_close_up(picture, other):
                yield picture, other


def _thumbnail(image: Image.Image, orientation: int) -> np.ndarray:
    """Decodes every pixel."""
    image.load()
    return np.asarray(_turn(_cells(image.convert("RGB").convert("L"), _THUMBNAIL), orientation))


def _cells(image: Image.Image, count: int) -> Image.Image:
    """``count`` x ``count`` mean values."""
    return image.resize((count, count), Image.Resampling.BOX)


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return image if method is None else image.transpose(method)


def _brightness(picture: Picture) -> float:
    return float(picture.thumbnail.mean())


def _same_shape(first: Picture, second: Picture) -> bool:
    return abs(first.size[0] * second.size[1] / (first.size[1] * second.size[0]) - 1) < 0.02


def _same_close_up(first: Picture, second: Picture) -> bool:
    pair = [open_image(picture.path) for picture in (first, second)]
    side = min(*first.size, *second.size)
    count = min(_CLOSE_UP, max(_THUMBNAIL, side // 4))
    if _difference([_cells(image.convert("L"), count) for image in pair]) > _SAME_CLOSE_UP:
        return False
    return _difference([_cells(image, _COLOUR_CELLS) for image in pair]) <= _SAME_CLOSE_UP


def _difference(pair: Sequence[Image.Image]) -> int:
    """Of the cells that differ most."""
    first, second = (np.asarray(image, dtype=np.int16) for image in pair)
    return int(np.abs(first - second).max())
