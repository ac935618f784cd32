"""Masklets: one object through all frames of a video, kept small.

Boxes and sizes are arrays, masks stay compressed text, so a video's worth of objects takes about the room of its file.
Shared by ground truth and predictions (spec/evaluation.md 1.3 and 1.4). Legend: F frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3.errors import DataError
from sam3.ops import rle

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MaskTrack:
    """The masks of one masklet, all of one size."""

    height: int
    width: int
    text: bytes  # compressed runs of the F frames with a blank between them; nothing where there is no mask
    areas: np.ndarray  # (F,) int64 object pixels; 0 where there is no mask

    def counts(self) -> list[bytes]:
        """The compressed runs of each frame; empty where there is no mask."""
        return self.text.split(b" ")

    def given(self) -> np.ndarray:
        """(F,) bool: where there is a mask, be it empty."""
        return np.fromiter(map(bool, self.counts()), dtype=bool, count=len(self.areas))


@dataclass(frozen=True, slots=True)
class Masklet:
    """One object of one phrase in one video."""

    video_id: int
    category_id: int
    boxes: np.ndarray  # (F, 4) float64 xywh, pixels; zeros where there is none
    box_given: np.ndarray  # (F,) bool
    masks: MaskTrack | None  # None: the file has none at all

    def __len__(self) -> int:
        """Frames."""
        return len(self.boxes)


def read_boxes(record: Record, where: str, key: str = "bboxes") -> tuple[np.ndarray, np.ndarray]:
    """Boxes (F, 4) of a record and where they are given (F,).

    Raises:
        DataError: not a list of ``[x, y, w, h]`` and nulls, a number that is not finite, a negative width or height.
    """
    values = frames_of(record, key, where)
    given = np.fromiter((value is not None for value in values), dtype=bool, count=len(values))
    boxes = np.zeros((len(values), 4))
    if given.any():
        try:
            found = np.array([value for value in values if value is not None], dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            found = np.zeros(0)
        if found.shape != (given.sum(), 4):
            raise DataError(f"{where}, {key}: {_first_bad_box(values)}")
        boxes[given] = found
        if not np.isfinite(found).all() or (found[:, 2:] < 0).any():
            raise DataError(f"{where}, {key}: {_first_bad_box(values)}")
    return boxes, given


def read_masks(record: Record, where: str, size: tuple[int, int] | None = None) -> MaskTrack:
    """The masks under ``segmentations``: compressed or uncompressed RLE, polygons, or null for none.

    Args:
        record: a masklet.
        where: names it in messages.
        size: (height, width) that polygons are drawn at; an RLE brings its own.

    Raises:
        DataError: a damaged mask, or masks of several sizes in one masklet.
    """
    values = frames_of(record, "segmentations", where)
    try:
        sizes = {(value["size"][0], value["size"][1]) for value in values if value is not None}
        texts = [b"" if value is None else value["counts"].encode("ascii") for value in values]
    except (TypeError, KeyError, IndexError, AttributeError, UnicodeEncodeError):
        values = [_as_rle(value, size, f"{where}, segmentations[{frame}]") for frame, value in enumerate(values)]
        sizes = {tuple(value["size"]) for value in values if value is not None}
        texts = [b"" if value is None else value["counts"].encode("ascii") for value in values]
    if not sizes:
        height, width = size or (0, 0)
        return MaskTrack(height, width, b" ".join(texts), np.zeros(len(texts), dtype=np.int64))
    if len(sizes) > 1:
        raise DataError(f"{where}, segmentations: masks of different sizes {sorted(sizes, key=str)} in one masklet")
    height, width = sizes.pop()
    if not all(isinstance(side, int) and side > 0 for side in (height, width)):
        raise DataError(f"{where}, segmentations: size is [{height}, {width}], expected whole numbers above 0")
    given = [frame for frame, value in enumerate(values) if value is not None]
    areas = np.zeros(len(texts), dtype=np.int64)
    try:
        areas[given] = rle.areas([texts[frame] for frame in given], height, width)
    except DataError as error:
        raise DataError(f"{where}, segmentations (counting those that are not null): {error}") from None
    return MaskTrack(height, width, b" ".join(texts), areas)


def frames_of(record: Record, key: str, where: str) -> list[Any]:
    """The list under ``key``, one entry per frame."""
    values = record.get(key)
    if not isinstance(values, list):
        came = "is missing" if key not in record else f"is {type(values).__name__}"
        raise DataError(f"{where}: {key} {came}, expected a list with one entry per frame")
    return values


def whole_number(record: Mapping[str, Any], key: str, where: str) -> int:
    """An id or a size; text that spells a whole number is accepted.

    Raises:
        DataError: missing, or something else.
    """
    value = record.get(key)
    if isinstance(value, int | str | float) and not isinstance(value, bool):
        try:
            number = int(value)
            if not isinstance(value, float) or number == value:
                return number
        except (ValueError, OverflowError):
            pass
    came = "is missing" if key not in record else f"is {value!r}"
    raise DataError(f"{where}: {key} {came}, expected a whole number")


def _as_rle(value: Any, size: tuple[int, int] | None, where: str) -> rle.Rle | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) and size is None:
        raise DataError(f"{where}: expected an RLE with size and counts, got {type(value).__name__}")
    try:
        return rle.from_any(value, *(size or (0, 0)))
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _first_bad_box(values: Sequence[Any]) -> str:
    for frame, value in enumerate(values):
        if value is None:
            continue
        try:
            box = np.array(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            box = np.zeros(0)
        if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < 0).any():
            return f"frame {frame} has {value!r}, expected [x, y, w, h] in pixels or null, w and h not negative"
    return "expected a list of [x, y, w, h] and nulls"
