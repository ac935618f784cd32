"""One annotation against the size its image is annotated in: box, mask, and whether they agree."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from sam3.errors import DataError
from sam3.ops import rle
from sam3.ops.rle import Rle
from sam3.planning.doctor.annotation_file import Content
from sam3.planning.doctor.findings import Drop, Finding, Repair, SetFields

_OUTSIDE = 1.0  # pixels that a box may stick out: rounding
_APART = 2.0  # pixels that the edges of box and mask may be apart,
_APART_SHARE = 0.1  # or this share of the object's side, whichever is more
_NO_AREA = 0.5  # pixels that an outline encloses at least


def check_object(content: Content, position: int, size: tuple[int, int], *, with_masks: bool) -> Iterator[Finding]:
    """Everything wrong with one annotation.

    Args:
        size: (height, width) that the annotation was made for.
        with_masks: look at the segmentation, too.
    """
    entry = content.annotations[position]
    file_name = str(content.image_of(entry)["file_name"])
    mask, problem = _read_mask(entry.get("segmentation"), size) if with_masks else (None, None)
    box = read_box(entry.get("bbox"))
    visible = None if box is None else _clip(box, size)
    has_box = visible is not None and min(visible[2:]) > 0

    def found(code: str, message: str, *repairs: Repair) -> Finding:
        return content.finding(code, "annotations", position, f"{file_name}: {message}", *repairs)

    def change(**values: Any) -> Repair:
        return SetFields("annotations", position, values)

    drop = Drop("annotations", position)
    from_mask = change(bbox=rle.to_box_xywh(mask)) if mask is not None else drop
    if entry.get("iscrowd"):
        yield found("crowd", "iscrowd is set")
    if problem is not None:
        yield found(*problem, change(segmentation=None) if has_box else drop)
    if box is None:
        code = "annotation-invalid" if entry.get("bbox") is None else "box-invalid"
        yield found(code, f"bbox is {entry.get('bbox')!r:.80}", from_mask)
        return
    if not has_box:
        yield found("box-empty", f"bbox {_text(box)} in an image of {size[1]} x {size[0]}", from_mask)
        return
    if _distance(box, visible) > _OUTSIDE:
        message = f"bbox {_text(box)} leaves the image of {size[1]} x {size[0]}"
        yield found("box-outside", message, change(bbox=visible))
    if mask is not None and not entry.get("iscrowd"):
        tight = rle.to_box_xywh(mask)
        if _disagree(visible, tight):
            message = f"bbox {_text(box)}, but the mask covers {_text(tight)}{_hint(box, tight)}"
            yield found("box-mask-disagree", message, from_mask)


def read_box(value: Any) -> list[float] | None:
    """``[x, y, width, height]`` if it is usable, as training judges it."""
    usable = (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(v, int | float) and math.isfinite(v) for v in value)
        and min(value[2:]) >= 0
    )
    return [float(v) for v in value] if usable else None


def _read_mask(segmentation: Any, size: tuple[int, int]) -> tuple[Rle | None, tuple[str, str] | None]:
    """The mask if it is usable, else the code and the message of what is wrong; neither where nothing is annotated."""
    if segmentation is None or segmentation == []:
        return None, None
    try:
        mask = rle.from_any(segmentation, *size)
    except DataError as error:
        return None, ("mask-unreadable", str(error))
    if tuple(mask["size"]) != size:
        return None, ("mask-size-differs", f"the RLE has the size {list(mask['size'])}, its image {list(size)}")
    if isinstance(segmentation, list) and _is_line(segmentation, mask):
        return None, ("mask-degenerate", "the outline is a line or a point")
    if rle.area(mask) == 0:
        return None, ("mask-empty", "the mask has no pixel inside the image")
    return mask, None


def _is_line(segmentation: list[Any], mask: Rle) -> bool:
    """An outline without area; one that crosses itself may enclose none by the formula, but covers pixels."""
    return _enclosed(segmentation) < _NO_AREA and rle.area(mask) <= max(rle.to_box_xywh(mask)[2:]) + 1


def _enclosed(segmentation: list[Any]) -> float:
    """Area inside the outlines, pixels."""
    parts = [segmentation] if all(isinstance(value, int | float) for value in segmentation) else segmentation
    return sum(_shoelace(np.asarray(part, dtype=np.float64).reshape(-1, 2)) for part in parts)


def _shoelace(points: np.ndarray) -> float:
    x, y = (points - points[0]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _clip(box: list[float], size: tuple[int, int]) -> list[float]:
    """The part of an xywh box inside the image, xywh."""
    height, width = size
    left, right = (min(max(v, 0.0), float(width)) for v in (box[0], box[0] + box[2]))
    top, bottom = (min(max(v, 0.0), float(height)) for v in (box[1], box[1] + box[3]))
    return [left, top, right - left, bottom - top]


def _edges(box: list[float]) -> tuple[float, float, float, float]:
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def _distance(first: list[float], second: list[float]) -> float:
    """Between the edges furthest apart, pixels."""
    return max(abs(a - b) for a, b in zip(_edges(first), _edges(second), strict=True))


def _disagree(box: list[float], tight: list[float]) -> bool:
    for axis in (0, 1):
        allowed = max(_APART, _APART_SHARE * max(box[axis + 2], tight[axis + 2]))
        if any(abs(_edges(box)[edge] - _edges(tight)[edge]) > allowed for edge in (axis, axis + 2)):
            return True
    return False


def _hint(box: list[float], tight: list[float]) -> str:
    """The usual cause, where it is this."""
    corners = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    return " (it reads as [x0, y0, x1, y1])" if min(corners[2:]) > 0 and not _disagree(corners, tight) else ""


def _text(box: list[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in (round(v, 1) for v in box)) + "]"
