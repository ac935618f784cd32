"""Outlines of drawn shapes as polygons, in pixels of the image.

Coordinates are continuous, ``(x, y)`` with y downwards: the pixel in column i covers x in [i, i + 1),
the image is the rectangle from (0, 0) to (width, height). :func:`sam3.ops.rle.from_polygons` turns
outlines into pixels.
"""

import math
from collections.abc import Sequence

import numpy as np

CIRCLE_TOLERANCE = 0.05  # pixels that the outline of a circle may lie inside the true rim


def rectangle_outline(corners: np.ndarray) -> np.ndarray:
    """Outline (4, 2) of the upright rectangle between two opposite ``corners`` (2, 2), given in any order."""
    (x0, y0), (x1, y1) = np.min(corners, axis=0), np.max(corners, axis=0)
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=np.float64)


def quadrilateral_outline(corners: np.ndarray) -> np.ndarray:
    """Outline (4, 2) of a turned rectangle, or any convex quadrilateral, from its ``corners`` (4, 2) in any order."""
    corners = np.asarray(corners, dtype=np.float64)
    x, y = (corners - corners.mean(axis=0)).T
    return corners[np.argsort(np.arctan2(y, x), kind="stable")]


def circle_outline(center: Sequence[float], rim: Sequence[float]) -> np.ndarray:
    """Outline (n, 2) of the circle around ``center`` through the point ``rim``.

    The corners lie on the rim, close enough for the sides to stay within :data:`CIRCLE_TOLERANCE` of it.
    Four of them are its leftmost, rightmost, top and bottom points, so that the outline has the circle's own box.
    """
    radius = math.hypot(rim[0] - center[0], rim[1] - center[1])
    half_angle = math.acos(max(0.0, 1 - CIRCLE_TOLERANCE / radius)) if radius else math.pi
    quarter = max(4, math.ceil(math.pi / half_angle / 4))  # corners on a quarter of the rim
    angles = np.arange(4 * quarter) * (math.pi / 2 / quarter)
    offsets = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    offsets[::quarter] = np.round(offsets[::quarter])  # cos of a right angle is not quite zero
    return np.asarray(center, dtype=np.float64) + radius * offsets


def clip_outline(outline: np.ndarray, height: int, width: int) -> np.ndarray:
    """The part of ``outline`` (n, 2) inside the image, (m, 2); m is 0 when nothing is left.

    Cuts at one border after the other (Sutherland and Hodgman 1974). An outline inside the image is returned
    unchanged. Where several pieces remain, they stay joined by lines of no width along the border.
    """
    points = np.asarray(outline, dtype=np.float64)
    for axis, side in ((0, width), (1, height)):
        points = _keep_below(points, axis, float(side))
        points = _keep_below(points * -1.0, axis, 0.0) * -1.0
    return points + 0.0  # no negative zeros


def outlines_to_box_xywh(outlines: Sequence[np.ndarray]) -> list[float]:
    """Box ``[x, y, w, h]`` of all points of the ``outlines``, full width: largest minus smallest coordinate."""
    points = np.concatenate(list(outlines))
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def _keep_below(points: np.ndarray, axis: int, bound: float) -> np.ndarray:
    """``points`` of a closed outline cut to ``points[:, axis] <= bound``."""
    inside = points[:, axis] <= bound
    if inside.all():
        return points
    kept = []
    for here, after, here_inside, after_inside in zip(
        points, np.roll(points, -1, axis=0), inside, np.roll(inside, -1), strict=True
    ):
        if here_inside:
            kept.append(here)
        if here_inside != after_inside:
            crossing = here + (after - here) * ((bound - here[axis]) / (after[axis] - here[axis]))
            crossing[axis] = bound
            kept.append(crossing)
    return np.array(kept).reshape(-1, 2)
