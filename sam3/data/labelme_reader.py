"""A Labelme JSON file becomes a typed annotation, or an error that says what is wrong with it.

Nothing here knows about classes or COCO: every shape of the file is checked for form (label, type,
finite points), what a shape means is decided in :mod:`sam3.data.labelme_shapes`.
"""

import base64
import binascii
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam3.errors import DataError

_MAX_COORDINATE = 1e6  # pixels; beyond it a file is damaged, and rasterising it would take all memory


@dataclass(frozen=True, eq=False)
class LabelmeShape:
    """One drawn shape, form checked."""

    number: int  # place in the file, from 1
    label: str  # NFC, no surrounding blanks, not empty
    shape_type: str  # as in the file: "polygon", "rectangle", ...
    points: np.ndarray  # (N, 2) float64, (x, y) in pixels, N >= 1
    group_id: int | str | None  # shapes of one label and one id are parts of one object
    mask: str | None  # base64 PNG of a "mask"

    def __str__(self) -> str:
        return f"shape {self.number} ({self.shape_type} {self.label!r})"


@dataclass(frozen=True)
class LabelmeFile:
    """One annotation file."""

    path: Path
    image_path: str | None  # as written in the file; may hold Windows separators
    has_image_data: bool  # the image is embedded: read_image_data
    size: tuple[int | None, int | None]  # (height, width) stated in the file
    shapes: tuple[LabelmeShape, ...]


def clean_label(label: str) -> str:
    """The form in which labels and class names are compared: NFC, without surrounding blanks."""
    return unicodedata.normalize("NFC", label).strip()


def read_labelme(path: Path) -> LabelmeFile:
    """Read and check one annotation file.

    Raises:
        DataError: it is no Labelme annotation or a shape is malformed; the message gives the reason, not the path.
    """
    document = _read_document(path)
    shapes = document.get("shapes")
    if not isinstance(shapes, list):
        found = "is missing" if "shapes" not in document else f"is {_kind(shapes)}"
        raise DataError(f"not a Labelme annotation: 'shapes' {found}, expected a list")
    image_path = document.get("imagePath")
    if not isinstance(image_path, str | None):
        raise DataError(f"'imagePath' must be text, got {_kind(image_path)}")
    return LabelmeFile(
        path=path,
        image_path=image_path or None,
        has_image_data=bool(document.get("imageData")),
        size=(_side(document, "imageHeight"), _side(document, "imageWidth")),
        shapes=tuple(_read_shape(number, shape) for number, shape in enumerate(shapes, start=1)),
    )


def read_image_data(path: Path) -> bytes:
    """The image file embedded in the annotation file ``path``."""
    return decode_base64(_read_document(path).get("imageData"), "'imageData'")


def decode_base64(text: Any, name: str) -> bytes:
    """Bytes of base64 ``text``; ``name`` is what an error calls it."""
    if not isinstance(text, str):
        raise DataError(f"{name} must be base64 text, got {_kind(text)}")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{name} is not valid base64 ({error})") from None


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"cannot be opened: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON, truncated or damaged: {error}") from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"not usable JSON: {error}") from None
    if not isinstance(document, dict):
        raise DataError(f"not a Labelme annotation: the JSON holds {_kind(document)}, expected an object")
    return document


def _side(document: Mapping[str, Any], key: str) -> int | None:
    side = document.get(key)
    if side is None:
        return None
    if isinstance(side, bool) or not isinstance(side, int | float) or not 1 <= side <= _MAX_COORDINATE or side % 1:
        raise DataError(f"{key!r} must be a positive whole number of pixels, got {side!r}")
    return int(side)


def _read_shape(number: int, shape: Any) -> LabelmeShape:
    if not isinstance(shape, dict):
        raise DataError(f"shape {number} is {_kind(shape)}, expected an object with 'label' and 'points'")
    label = shape.get("label")
    if not isinstance(label, str) or not clean_label(label):
        raise DataError(f"shape {number} has no label ('label' is {label!r}); name it in Labelme or delete it")
    shape_type = shape.get("shape_type") or "polygon"  # absent in files of the first versions, which knew polygons only
    if not isinstance(shape_type, str):
        raise DataError(f"shape {number} ({label!r}): 'shape_type' must be text, got {_kind(shape_type)}")
    group_id = shape.get("group_id")
    if isinstance(group_id, bool) or not isinstance(group_id, int | str | None):
        raise DataError(f"shape {number} ({label!r}): 'group_id' must be a whole number or null, got {group_id!r}")
    return LabelmeShape(
        number=number,
        label=clean_label(label),
        shape_type=shape_type,
        points=_read_points(f"shape {number} ({shape_type} {label!r})", shape.get("points")),
        group_id=group_id,
        mask=shape.get("mask"),
    )


def _read_points(name: str, points: Any) -> np.ndarray:
    if not isinstance(points, list) or not points:
        raise DataError(f"{name} has no points ('points' is {'empty' if points == [] else _kind(points)})")
    for place, point in enumerate(points, start=1):
        if not isinstance(point, list) or len(point) != 2 or not all(_is_number(value) for value in point):
            raise DataError(f"{name}: point {place} must be [x, y], two numbers, got {point!r:.80}")
        if not all(abs(value) <= _MAX_COORDINATE for value in point):  # false for NaN, too
            raise DataError(f"{name}: point {place} is {point!r:.80}; coordinates must be finite and below a million")
    return np.array(points, dtype=np.float64)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
