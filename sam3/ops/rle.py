"""Run-length encoded masks of COCO: the only place that encodes or decodes one.

An RLE is ``{"size": [H, W], "counts": str}``: runs of zeros and ones in turn, column by column,
starting with zeros, written in COCO's compressed text (``spec/evaluation.md`` 1.5). pycocotools
defines the format, so it writes the text and rasterises the polygons; reading is done here, because
its reader returns uninitialised memory when the runs do not fill the image.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from sam3.errors import DataError

_MASKS_AT_ONCE = 256  # whose characters are looked at together: what fits into the processor's cache is fast
_MAX_COORDINATE = 1e6  # pixels; the polygon tracer allocates memory in proportion to the length of an edge


class Rle(TypedDict):
    """One encoded mask."""

    size: list[int]  # [H, W]
    counts: str  # compressed runs


def encode(mask: np.ndarray) -> Rle:
    """RLE of ``mask`` (H, W), bool or integers, non-zero = object."""
    from pycocotools import mask as coco_mask

    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise DataError(f"a mask must have shape (H, W), got {mask.shape}")
    return _with_text(coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8)))


def decode(rle: Mapping[str, Any]) -> np.ndarray:
    """Mask (H, W), bool, in column-major memory; ``rle["counts"]`` is text, bytes or a list of runs.

    Raises:
        DataError: the runs are malformed or do not add up to H * W.
    """
    return decode_columns(rle, 0, _size(rle)[1])


def decode_columns(rle: Mapping[str, Any], start: int, stop: int) -> np.ndarray:
    """Columns ``start`` to ``stop`` (excluded) of :func:`decode`, (H, stop - start), without decoding the others."""
    height, width = _size(rle)
    if not 0 <= start <= stop <= width:
        raise ValueError(f"columns {start}..{stop} of a mask of width {width}")
    runs = _runs(rle)
    ends = np.cumsum(runs).clip(start * height, stop * height)
    lengths = np.diff(ends, prepend=start * height)
    is_object = np.arange(len(runs)) % 2 == 1
    return np.repeat(is_object, lengths).reshape(stop - start, height).T


def area(rle: Mapping[str, Any]) -> int:
    """Number of object pixels."""
    return int(_runs(rle)[1::2].sum())


def areas(counts: Sequence[bytes], height: int | np.ndarray, width: int | np.ndarray) -> np.ndarray:
    """Object pixels of many masks, (N,) int64, from their compressed texts; all are checked on the way.

    The check is no luxury: pycocotools' IoU never returns when the runs of two masks differ in their sums.

    Args:
        counts: N texts.
        height: of the images: one for all, or (N,).
        width: the same.

    Raises:
        DataError: as :func:`decode`; the message names the first damaged mask by its index.
    """
    heights, widths = (np.broadcast_to(np.asarray(side, dtype=np.int64), len(counts)) for side in (height, width))
    pixels, steps = heights * widths, range(0, len(counts), _MASKS_AT_ONCE)
    parts = [_areas_at_once(counts[i : i + _MASKS_AT_ONCE], pixels[i : i + _MASKS_AT_ONCE]) for i in steps]
    if all(part is not None for part in parts):
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    one_by_one = []
    for index, text in enumerate(counts):
        try:
            one_by_one.append(area({"size": [heights[index], widths[index]], "counts": text}))
        except DataError as error:
            raise DataError(f"mask {index}: {error}") from None
    return np.array(one_by_one, dtype=np.int64)


def to_box_xywh(rle: Mapping[str, Any]) -> list[float]:
    """Tight box ``[x, y, w, h]`` in pixels, full width (one pixel has w = h = 1); zeros for an empty mask."""
    from pycocotools import mask as coco_mask

    return [float(value) for value in coco_mask.toBbox(_as_compressed(rle))]


def from_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> Rle:
    """RLE of the union of polygons, each a flat ``[x0, y0, x1, y1, ...]`` in pixels, parts outside the image cut.

    Raises:
        DataError: no polygon, fewer than three points, an odd number of values, or one that is not a usable number.
    """
    from pycocotools import mask as coco_mask

    if not len(polygons):
        raise DataError("a polygon segmentation must have at least one part, got none")
    parts = [_checked_polygon(polygon) for polygon in polygons]
    return _with_text(coco_mask.merge(coco_mask.frPyObjects(parts, height, width)))


def union(rles: Sequence[Mapping[str, Any]]) -> Rle:
    """RLE of the pixels that belong to at least one of ``rles``, which must be of one size."""
    from pycocotools import mask as coco_mask

    sizes = {_size(rle) for rle in rles}
    if len(sizes) != 1:
        raise DataError(f"masks to be united must be of one size, got {sorted(sizes) or 'none'}")
    return _with_text(coco_mask.merge([_as_compressed(rle) for rle in rles]))


def iou(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """Intersection over union of two masks of one size."""
    from pycocotools import mask as coco_mask

    return float(coco_mask.iou([_as_compressed(first)], [_as_compressed(second)], [0])[0, 0])


def from_any(segmentation: Any, height: int, width: int) -> Rle:
    """Compressed RLE of any COCO ``segmentation``: list of polygons, uncompressed or compressed RLE.

    Args:
        segmentation: the value found in an annotation file; a flat list of numbers counts as one polygon.
        height: of the image. An RLE keeps its own size, which may differ.
        width: of the image.
    """
    if isinstance(segmentation, Mapping):
        return _as_compressed(segmentation)
    if isinstance(segmentation, list | tuple):
        is_flat = bool(segmentation) and all(isinstance(value, int | float) for value in segmentation)
        return from_polygons([segmentation] if is_flat else segmentation, height, width)
    raise DataError(f"a segmentation must be a list of polygons or an RLE, got {type(segmentation).__name__}")


def _checked_polygon(polygon: Sequence[float]) -> list[float]:
    try:
        values = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("a polygon must be a flat list of numbers [x0, y0, x1, y1, ...]") from None
    if values.ndim != 1 or values.size % 2:
        raise DataError(f"a polygon must be a flat list of x, y pairs, got shape {values.shape}")
    if values.size < 6:
        raise DataError(f"a polygon needs at least 3 points, got {values.size // 2}")
    if not (np.abs(values) <= _MAX_COORDINATE).all():
        raise DataError("a polygon holds a coordinate that is not finite or lies more than a million pixels away")
    return values.tolist()


def _with_text(rle: Mapping[str, Any]) -> Rle:
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return Rle(size=[int(side) for side in rle["size"]], counts=text)


def _as_compressed(rle: Mapping[str, Any]) -> Rle:
    from pycocotools import mask as coco_mask

    height, width = _size(rle)
    runs = _runs(rle)
    if isinstance(rle["counts"], str | bytes):
        return _with_text(rle)
    return _with_text(coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width))


def _size(rle: Mapping[str, Any]) -> tuple[int, int]:
    size = rle.get("size")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(_is_length(side) for side in size):
        raise DataError(f"an RLE needs 'size': [height, width], got {size!r}")
    return int(size[0]), int(size[1])


def _is_length(side: Any) -> bool:
    return isinstance(side, int | float | np.number) and side >= 0 and float(side).is_integer()


def _runs(rle: Mapping[str, Any]) -> np.ndarray:
    """Lengths of the runs, zeros first, checked to fill the image."""
    height, width = _size(rle)
    counts = rle.get("counts")
    if isinstance(counts, str | bytes):
        runs = _parse_counts(counts.encode() if isinstance(counts, str) else counts)
    elif isinstance(counts, list | tuple):
        runs = _parse_list(counts)
    else:
        raise DataError(f"an RLE needs 'counts' as text or as a list of runs, got {type(counts).__name__}")
    if (runs < 0).any() or runs.sum() != height * width:
        raise DataError(
            f"the runs of an RLE must be non-negative and add up to height x width = {height * width}, "
            f"got a sum of {runs.sum()}; the mask is damaged or belongs to an image of another size"
        )
    return runs


def _parse_list(counts: Sequence[Any]) -> np.ndarray:
    if not all(isinstance(run, int | np.integer) for run in counts):
        raise DataError("the runs of an uncompressed RLE must be whole numbers")
    return np.asarray(counts, dtype=np.int64)


def _parse_counts(text: bytes) -> np.ndarray:
    """Runs from COCO's text: six-bit characters from ``0`` on, five bits of payload and one "more follows", low bits
    first, the last one's top bit is the sign; from the fourth run on the difference to the run two before."""
    characters = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if not len(characters):
        return np.zeros(0, dtype=np.int64)
    if ((characters < 0) | (characters > 63)).any() or characters[-1] & 0x20:
        raise DataError("the counts of an RLE hold a character outside '0'..'o' or end in the middle of a run")
    is_last = (characters & 0x20) == 0
    starts = np.concatenate([[0], np.flatnonzero(is_last)[:-1] + 1])
    position = np.arange(len(characters)) - np.repeat(starts, np.diff(np.append(starts, len(characters))))
    if position.max() > 11:
        raise DataError("the counts of an RLE hold a run of more than 60 bits")
    values = np.add.reduceat((characters & 0x1F) << (5 * position), starts)
    last = np.flatnonzero(is_last)
    is_negative = (characters[last] & 0x10) != 0
    runs = values - np.where(is_negative, np.int64(1) << (5 * (position[last] + 1)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _areas_at_once(counts: Sequence[bytes], pixels: np.ndarray) -> np.ndarray | None:
    """:func:`areas` of masks without a flaw; ``None`` asks for a closer look.

    Works on characters instead of runs: the payload of each, shifted to its place, is summed up along the text, odd
    and even runs apart, so that the sum at the last character of a run is its length. Sums may overflow, differences
    of them do not.
    """
    lengths = np.fromiter(map(len, counts), dtype=np.int64, count=len(counts))
    characters = np.frombuffer(b"".join(counts), dtype=np.uint8) - np.uint8(48)
    starts = np.cumsum(lengths) - lengths
    more = characters >= 32
    flawed = not lengths.all() or characters.max() > 63 or more[starts + lengths - 1].any()
    place = None if flawed or pixels.max() >= 1 << 31 else _places(more)
    if place is None:
        return None
    payload = (characters & 31).astype(np.int32)
    payload -= ((characters & 48) == 16) * np.int32(32)  # the top bit of a last character is the sign
    payload <<= place
    last = ~more
    number = np.cumsum(last, dtype=np.int32) - last
    number -= np.repeat(number[starts], lengths)
    odd = (number & 1).astype(bool)
    ones = _runs_at_ends(payload * odd, last & odd, starts, lengths)
    first = number == 0  # neither of the later even runs is a difference to it
    zeros = _runs_at_ends(payload * ~(odd | first), last & ~(odd | first), starts, lengths)
    beginnings = np.add.reduceat(payload * first, starts)
    area_of_each = np.add.reduceat(ones, starts, dtype=np.int64)
    totals = area_of_each + np.add.reduceat(zeros, starts, dtype=np.int64) + beginnings
    if min(ones.min(), zeros.min(), beginnings.min()) < 0 or (totals != pixels).any():
        return None
    return area_of_each


def _places(more: np.ndarray) -> np.ndarray | None:
    """By how many bits the payload of each character is shifted; ``None`` for numbers beyond 30 bits."""
    follows = np.zeros_like(more)
    follows[1:] = more[:-1]
    place, deeper = follows * np.uint8(5), follows.copy()
    for _ in range(5):
        deeper[1:] &= deeper[:-1].copy()
        if not deeper.any():
            return place
        place += deeper * np.uint8(5)
    return None


def _runs_at_ends(payload: np.ndarray, ends: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Running sums of each text at the characters ``ends``, zero elsewhere."""
    sums = np.cumsum(payload, dtype=np.int32)
    before = sums[starts] - payload[starts]
    return (sums - np.repeat(before, lengths)) * ends
