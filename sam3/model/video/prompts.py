"""What a person says about a frame, read from the fields of a request and checked (spec/tracker_video.md 7.2).

Everything is relative to the picture afterwards, 0 .. 1; with ``rel_coordinates`` False it came in pixels of the video.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam3.errors import MissingFieldError, SessionError
from sam3.ops.boxes import box_xywh_to_xyxy

Request = Mapping[str, Any]
Size = tuple[int, int]  # (height, width) of the video, pixels

_ROUNDING = 1e-4  # boxes may leave the picture by so much


@dataclass(frozen=True)
class Clicks:
    """Points, a box or both that say where one object is."""

    obj_id: int
    points: Tensor  # (K, 2) xy
    labels: Tensor  # (K,) 1 = on the object, 0 = off it
    box: Tensor | None = None  # (4,) xyxy
    keep_points: bool = False  # earlier points of the frame count on
    keep_box: bool = False  # an earlier box of the frame counts on


@dataclass(frozen=True)
class Example:
    """A box around something of the kind that is looked for."""

    box: Tensor  # (4,) xyxy
    is_positive: bool


def require(request: Request, name: str) -> Any:
    """A field that must be there."""
    if request.get(name) is None:
        raise MissingFieldError(f"the request {request.get('type')!r} needs the field {name!r}")
    return request[name]


def read_number(request: Request, name: str, *, default: int | None = None) -> int | None:
    """A whole number from 0 on; a field without a default must be there, unless the default is None."""
    value = request.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**63:
        raise SessionError(f"{name} must be a whole number from 0 on, got {value!r}")
    return int(value)


def read_flag(request: Request, name: str, *, default: bool) -> bool:
    """True or False."""
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, bool | np.bool_) and value not in (0, 1):
        raise SessionError(f"{name} must be true or false, got {value!r}")
    return bool(value)


def read_threshold(request: Request, name: str) -> float | None:
    """A number in [0, 1]."""
    value = request.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
        raise SessionError(f"{name} must be a number from 0 to 1, got {value!r}")
    return float(value)


def read_phrase(value: Any) -> str:
    """A text that names something."""
    if not isinstance(value, str) or not value.strip():
        raise SessionError(f"text must be a phrase, got {value!r}")
    return value


def read_clicks(request: Request, size: Size) -> Clicks:
    """``points`` with ``point_labels``, ``bounding_boxes`` (one), or both, of the object ``obj_id``.

    Raises:
        SessionError: wrong shapes or labels, or coordinates outside the picture.
    """
    require(request, "obj_id")
    obj_id = read_number(request, "obj_id")
    is_relative = read_flag(request, "rel_coordinates", default=True)
    points, labels = _points(request, size, is_relative)
    boxes = request.get("bounding_boxes")
    box = None if boxes is None else _box(boxes, size, is_relative)
    if box is not None and not _label_is_positive(request.get("bounding_box_labels", 1)):
        raise SessionError("the box of an object says where it is; its bounding_box_labels must be [1]")
    return Clicks(
        obj_id,
        points,
        labels,
        box,
        keep_points=not read_flag(request, "clear_old_points", default=True),
        keep_box=not read_flag(request, "clear_old_boxes", default=True),
    )


def read_example(request: Request, size: Size) -> Example | None:
    """``bounding_boxes`` (one) with ``bounding_box_labels``; None without."""
    boxes, labels = request.get("bounding_boxes"), request.get("bounding_box_labels")
    if (boxes is None) != (labels is None):
        raise SessionError("bounding_boxes and bounding_box_labels belong together: give both or neither")
    if boxes is None:
        return None
    box = _box(boxes, size, read_flag(request, "rel_coordinates", default=True))
    return Example(box, _label_is_positive(labels))


def _points(request: Request, size: Size, is_relative: bool) -> tuple[Tensor, Tensor]:
    points, labels = request.get("points"), request.get("point_labels")
    if points is None:
        if labels is not None:
            raise SessionError("point_labels came without points: give both or neither")
        return torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)
    require(request, "point_labels")
    place = _numbers("points", points)
    if place.ndim != 2 or place.shape[1] != 2 or not len(place):
        raise SessionError(f"points must be (N, 2): x, y of at least one point; got the shape {place.shape}")
    names = _numbers("point_labels", labels).reshape(-1)
    if len(names) != len(place):
        raise SessionError(f"{len(place)} points need as many labels, got {len(names)}")
    if not np.isin(names, (0, 1)).all():
        raise SessionError(f"point_labels must be 1 (on the object) or 0 (off it), got {names.tolist()}")
    height, width = size
    if not is_relative:
        place = place / (width, height)
    if not ((place >= 0) & (place <= 1)).all():
        unit = "relative to the picture, 0 .. 1" if is_relative else f"pixels of the video, {width} x {height}"
        raise SessionError(f"points must be x, y {unit}; got {_numbers('points', points).tolist()}")
    return torch.from_numpy(place.astype(np.float32)), torch.from_numpy(names.astype(np.int64))


def _box(boxes: Any, size: Size, is_relative: bool) -> Tensor:
    """x, y, width, height -> (4,) xyxy."""
    values = _numbers("bounding_boxes", boxes)
    if values.shape not in ((4,), (1, 4)):
        raise SessionError(f"bounding_boxes must hold one box of x, y, width, height; got the shape {values.shape}")
    height, width = size
    scaled = values.reshape(4) if is_relative else values.reshape(4) / (width, height, width, height)
    corners = box_xywh_to_xyxy(torch.from_numpy(scaled.astype(np.float32)))
    if not ((scaled >= 0) & (scaled <= 1)).all() or (scaled[2:] <= 0).any() or bool((corners > 1 + _ROUNDING).any()):
        unit = "relative to the picture, 0 .. 1" if is_relative else f"in pixels of the video, {width} x {height}"
        raise SessionError(f"bounding_boxes must be x, y, width, height {unit}; got {values.reshape(4).tolist()}")
    return corners.clamp(max=1)


def _label_is_positive(labels: Any) -> bool:
    values = _numbers("bounding_box_labels", labels).reshape(-1)
    if len(values) != 1 or values[0] not in (0, 1):
        raise SessionError(f"bounding_box_labels must be one label for the one box, 1 or 0; got {values.tolist()}")
    return bool(values[0])


def _numbers(name: str, value: Any) -> np.ndarray:
    """A float64 array of finite numbers."""
    try:
        array = np.asarray(value.tolist() if isinstance(value, Tensor) else value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SessionError(f"{name} must be numbers in rows of one length, got {value!r}") from error
    if not np.isfinite(array).all():
        raise SessionError(f"{name} must be finite numbers, got {array.tolist()}")
    return array
