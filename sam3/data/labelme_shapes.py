"""Labelme shapes become object instances: segmentation, box and area.

A polygon, rectangle, turned rectangle or circle becomes an outline in continuous pixel coordinates
(:mod:`sam3.ops.polygons`), a Labelme mask an RLE. Shapes of one label and one ``group_id`` are parts
of one instance. What sticks out of the image is cut off.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from sam3.data.labelme_reader import LabelmeShape, decode_base64
from sam3.errors import DataError
from sam3.io.images import reason_unreadable
from sam3.ops import rle
from sam3.ops.polygons import (
    circle_outline,
    clip_outline,
    outlines_to_box_xywh,
    quadrilateral_outline,
    rectangle_outline,
)


@dataclass(frozen=True)
class Instance:
    """One object of one image."""

    label: str
    segmentation: list[list[float]] | rle.Rle  # polygons [x0, y0, x1, y1, ...], or an RLE where a mask takes part
    box_xywh: list[float]  # pixels, full width
    area: int  # pixels of the rasterised segmentation
    num_shapes: int  # parts it was drawn in


def is_supported(shape: LabelmeShape) -> bool:
    """Whether the shape encloses an area that this converter knows to read."""
    return shape.shape_type == "mask" or shape.shape_type in _OUTLINES


def to_instances(shapes: Iterable[LabelmeShape], height: int, width: int) -> list[Instance]:
    """Instances of one image, in the order of their first shape.

    Args:
        shapes: those to convert, all of a supported type.
        height: of the annotated image, pixels.
        width: of the annotated image, pixels.

    Raises:
        DataError: a shape is of an unsupported type, malformed, or covers no pixel of the image.
    """
    objects: dict[tuple, list[LabelmeShape]] = {}
    for shape in shapes:
        key = (shape.label, shape.number) if shape.group_id is None else (shape.label, "group", shape.group_id)
        objects.setdefault(key, []).append(shape)
    return [_to_instance(parts, height, width) for parts in objects.values()]


def _to_instance(shapes: Sequence[LabelmeShape], height: int, width: int) -> Instance:
    parts = [
        _mask_part(shape, height, width) if shape.shape_type == "mask" else _outline_part(shape, height, width)
        for shape in shapes
    ]
    whole = rle.union([part.pixels for part in parts])
    outlines = [part.outline for part in parts if part.outline is not None]
    all_outlines = len(outlines) == len(parts)
    return Instance(
        label=shapes[0].label,
        segmentation=[outline.reshape(-1).tolist() for outline in outlines] if all_outlines else whole,
        box_xywh=outlines_to_box_xywh(outlines) if all_outlines else rle.to_box_xywh(whole),
        area=rle.area(whole),
        num_shapes=len(shapes),
    )


class _Part(NamedTuple):
    """One shape inside the image."""

    pixels: rle.Rle
    outline: np.ndarray | None  # (n, 2); None for a mask


def _outline_part(shape: LabelmeShape, height: int, width: int) -> _Part:
    if not is_supported(shape):
        raise DataError(
            f"{shape} encloses no area; supported are {', '.join([*_OUTLINES, 'mask'])}. "
            "Redraw it, or pass --skip_unsupported to leave such shapes out"
        )
    outline = clip_outline(_OUTLINES[shape.shape_type](shape), height, width)
    if len(outline) < 3:
        raise DataError(f"{shape} lies wholly outside the image of {width} x {height} pixels; delete or move it")
    pixels = rle.from_polygons([outline.reshape(-1).tolist()], height, width)
    if rle.area(pixels) == 0:
        raise DataError(f"{shape} covers no pixel of the image; delete it or draw it larger")
    return _Part(pixels, outline)


def _polygon(shape: LabelmeShape) -> np.ndarray:
    if len(shape.points) < 3:
        raise DataError(f"{shape} needs at least 3 points, got {len(shape.points)}")
    return shape.points


def _rectangle(shape: LabelmeShape) -> np.ndarray:
    if len(shape.points) == 4:  # some tools write all four corners
        return quadrilateral_outline(shape.points)
    _require_points(shape, 2, "opposite corners")
    return rectangle_outline(shape.points)


def _oriented_rectangle(shape: LabelmeShape) -> np.ndarray:
    _require_points(shape, 4, "corners")
    return quadrilateral_outline(shape.points)


def _circle(shape: LabelmeShape) -> np.ndarray:
    _require_points(shape, 2, "its centre and a point on its rim")
    return circle_outline(*shape.points).round(2)


_OUTLINES: dict[str, Callable[[LabelmeShape], np.ndarray]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "oriented_rectangle": _oriented_rectangle,
    "circle": _circle,
}


def _require_points(shape: LabelmeShape, expected: int, meaning: str) -> None:
    if len(shape.points) != expected:
        raise DataError(f"{shape} needs {expected} points ({meaning}), got {len(shape.points)}")


def _mask_part(shape: LabelmeShape, height: int, width: int) -> _Part:
    """The mask pasted into an empty image; its two points name the first and the last pixel of its box."""
    _require_points(shape, 2, "first and last pixel of its box")
    (x0, y0), (x1, y1) = shape.points.astype(np.int64).tolist()  # truncates, as Labelme does
    pixels = _read_mask(shape)
    if pixels.shape != (y1 - y0 + 1, x1 - x0 + 1):
        raise DataError(
            f"{shape}: its PNG has {pixels.shape[1]} x {pixels.shape[0]} pixels, "
            f"but its points span {x1 - x0 + 1} x {y1 - y0 + 1}"
        )
    canvas = np.zeros((height, width), dtype=bool)
    top, left, bottom, right = max(y0, 0), max(x0, 0), min(y1 + 1, height), min(x1 + 1, width)
    if top < bottom and left < right:
        canvas[top:bottom, left:right] = pixels[top - y0 : bottom - y0, left - x0 : right - x0]
    if not canvas.any():
        raise DataError(
            f"{shape} covers no pixel of the image of {width} x {height} pixels; delete it or draw it again"
        )
    return _Part(rle.encode(canvas), outline=None)


def _read_mask(shape: LabelmeShape) -> np.ndarray:
    """(h, w) bool."""
    data = decode_base64(shape.mask, f"{shape}: 'mask'")
    try:
        with Image.open(io.BytesIO(data)) as image:
            single_band = image if len(image.getbands()) == 1 else image.convert("L")
            return np.asarray(single_band) != 0
    except Exception as error:  # decoders raise almost anything on damaged data
        raise DataError(f"{shape}: 'mask' is not a readable PNG: {reason_unreadable(error)}") from None
