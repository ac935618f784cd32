"""Labelme annotations as we write them, in the form that Labelme itself saves. Needs no torch."""

from collections.abc import Iterable, Sequence
from typing import Any

VERSION = "5.5.0"  # of Labelme; it opens files of its own major version without asking


def labelme_document(
    shapes: Iterable[dict[str, Any]], *, image_path: str, image_size: tuple[int, int]
) -> dict[str, Any]:
    """The content of an annotation file.

    Args:
        shapes: from :func:`labelme_shape`.
        image_path: of the picture as seen from the annotation file, with forward slashes.
        image_size: (height, width) of the picture, pixels.
    """
    height, width = image_size
    return {
        "version": VERSION,
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def labelme_shape(
    label: str,
    points: Iterable[Sequence[float]],
    shape_type: str,
    *,
    group_id: int | None = None,
    description: str = "",
) -> dict[str, Any]:
    """One shape; ``points`` are (x, y) in pixels, shapes of one label and one ``group_id`` are one object."""
    return {
        "label": label,
        "points": [[float(x), float(y)] for x, y in points],
        "group_id": group_id,
        "description": description,
        "shape_type": shape_type,
        "flags": {},
        "mask": None,
    }
