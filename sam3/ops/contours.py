"""From a mask to the polygons that bound it, along the edges of the pixels.

Corners are points of the pixel grid: pixel (row y, column x) is the square from (x, y) to (x + 1, y + 1), the
convention of COCO polygons. Pixels that touch at a corner belong to one region (8-connected), so the background
is 4-connected. Rasterising :func:`mask_polygons` gives the mask back exactly.

How: every corner of a rectilinear outline ends one horizontal and one vertical edge. Sorted along the rows,
corners pair up to the horizontal edges; sorted along the columns, to the vertical ones. A corner where two pixels
touch diagonally counts twice. Walking the two pairings in turn gives the rings.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.int64]  # (N, 2) x, y


@dataclass(frozen=True)
class Ring:
    """One closed outline; the last point joins the first."""

    points: Points  # clockwise on the screen around objects, counter-clockwise around holes
    is_hole: bool


def mask_rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """Every outline of ``mask`` (H, W), outer ones and holes, ordered by their top-left corner."""
    mask, offset = _cropped(mask)
    outline = _Outline.of(mask)
    rings = []
    for corners in outline.rings:
        points, is_hole = outline.points[corners] + offset, outline.is_hole(corners)
        rings.append(Ring(points[::-1] if is_hole else points, is_hole))
    return rings


def mask_polygons(mask: NDArray[np.bool_]) -> list[Points]:
    """One polygon (N, 2) per region of ``mask`` (H, W); an empty mask gives none.

    A hole is joined to its surroundings by a slit of no width: the outline runs into the hole, around it and back
    on the same way. Both fill rules (even-odd and non-zero) then leave the hole out.
    """
    mask, offset = _cropped(mask)
    outline = _Outline.of(mask)
    slits: dict[int, list[tuple[int, int]]] = {}  # upper corner of a vertical edge -> (y, hole) that open on it
    is_hole = [outline.is_hole(corners) for corners in outline.rings]
    for index, corners in enumerate(outline.rings):
        if is_hole[index]:
            edge = outline.edge_left_of(corners[0])
            slits.setdefault(edge, []).append((int(outline.points[corners[0], 1]), index))
    # A slit leads left from the hole's top-left corner, hence to a ring found earlier: walking backwards, every
    # hole is finished before the ring that it opens on.
    paths: dict[int, list[tuple[int, int]]] = {}
    for index in reversed(range(len(outline.rings))):
        paths[index] = outline.walk(outline.rings[index], slits, paths, reverse=is_hole[index])
    return [_without_repeats(np.array(paths[index], np.int64)) + offset for index in sorted(paths)]


def simplify_polygon(points: NDArray, tolerance: float) -> NDArray:
    """Leave out points of a closed polygon (N, 2) that lie within ``tolerance`` pixels of the line without them.

    Douglas-Peucker. Points visited twice (ends of slits, touching corners) stay, so that slits keep their width of
    zero. Never fewer than 3 points; ``tolerance`` 0 drops only points on a straight line.
    """
    if len(points) <= 3:
        return points
    first = int(np.lexsort((points[:, 1], points[:, 0]))[0])
    points = np.roll(points, -first, axis=0)
    kept = _visited_twice(points)
    kept[[0, int(((points - points[0]) ** 2).sum(1).argmax())]] = True
    anchors = [*np.flatnonzero(kept).tolist(), len(points)]
    closed = np.concatenate([points, points[:1]])
    kept[_kept_between(closed, list(pairwise(anchors)), tolerance)] = True
    return points[kept] if kept.sum() >= 3 else points


@dataclass(frozen=True)
class _Outline:
    """Corners of a mask, in reading order, and the two pairings of them."""

    mask: NDArray[np.bool_]
    points: Points  # (M, 2) x, y; diagonal touches occur twice
    column_order: NDArray[np.int64]  # (M,) corners sorted by column, then row
    column_points: Points  # the same corners' places
    vertical: NDArray[np.int64]  # (M,) the other end of each corner's vertical edge
    rings: list[NDArray[np.int64]]  # corners of each ring, clockwise from its top-left one

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> "_Outline":
        points, lower_first = _corners(mask)
        # Of a doubled corner the first entry ends the edge to its left, the second starts the one to its right;
        # which of the two goes down depends on the diagonal.
        column_order = np.lexsort((lower_first, points[:, 1], points[:, 0]))
        vertical = np.empty(len(points), np.int64)
        vertical[column_order[0::2]], vertical[column_order[1::2]] = column_order[1::2], column_order[0::2]
        return cls(mask, points, column_order, points[column_order], vertical, _rings(vertical))

    def is_hole(self, corners: NDArray[np.int64]) -> bool:
        """A ring's top-left corner has the ring's inside to its lower right."""
        x, y = self.points[corners[0]]
        return not self.mask[y, x]

    def edge_left_of(self, corner: int) -> int:
        """Upper corner of the vertical edge that bounds, on the left, the object pixels left of ``corner``."""
        x, y = self.points[corner]
        row = self.mask[y, :x]
        edge_x = x - int(row[::-1].argmin()) if not row.all() else 0
        column = slice(*np.searchsorted(self.column_points[:, 0], [edge_x, edge_x + 1]))
        upper = column.start + int(np.searchsorted(self.column_points[column, 1], y, "right")) - 1
        return int(self.column_order[upper])

    def walk(
        self,
        corners: NDArray[np.int64],
        slits: dict[int, list[tuple[int, int]]],
        paths: dict[int, list[tuple[int, int]]],
        *,
        reverse: bool,
    ) -> list[tuple[int, int]]:
        """Points of a ring from its first corner, with a detour through each hole that opens on one of its edges."""
        if reverse:
            corners = np.concatenate([corners[:1], corners[:0:-1]])
        path: list[tuple[int, int]] = []
        following = np.roll(corners, -1).tolist()
        places = self.points[corners].tolist()
        for corner, after, (x, y) in zip(corners.tolist(), following, places, strict=True):
            path.append((x, y))
            if self.vertical[corner] != after:
                continue
            downwards = self.points[after, 1] > y
            for slit_y, hole in sorted(slits.get(corner if downwards else after, ()), reverse=not downwards):
                detour = paths.pop(hole)
                path += [(x, slit_y), *detour, detour[0], (x, slit_y)]
        return path


def _cropped(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Points]:
    """The part of a mask that holds anything, and its upper left corner (2,) x, y: cost follows the object."""
    mask = np.asarray(mask, bool)
    if mask.ndim != 2:
        raise ValueError(f"a mask has shape (H, W), got {mask.shape}")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return mask[:0, :0], np.zeros(2, np.int64)
    cropped = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cropped, np.array([columns[0], rows[0]], np.int64)


def _corners(mask: NDArray[np.bool_]) -> tuple[Points, NDArray[np.int8]]:
    """Corners of the outlines in reading order, and the rank of doubled ones within their column."""
    padded = np.pad(mask, 1)
    upper_left, upper_right = padded[:-1, :-1], padded[:-1, 1:]
    lower_left, lower_right = padded[1:, :-1], padded[1:, 1:]
    odd = upper_left ^ upper_right ^ lower_left ^ lower_right
    touch = ~odd & (upper_left ^ upper_right) & (upper_left ^ lower_left)
    y, x = np.nonzero(odd | touch)
    copies = 1 + touch[y, x]
    points = np.repeat(np.stack([x, y], 1), copies, axis=0)
    second = np.zeros(len(points), np.int8)
    second[np.cumsum(copies)[copies == 2] - 1] = 1
    # Object pixels at the upper left and lower right: the outline joins left with below and right with above.
    falling = np.repeat(touch[y, x] & upper_left[y, x], copies)
    return points, np.where(falling, 1 - second, second)


def _rings(vertical: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cycles of the two pairings; horizontal partners are neighbours in reading order (2k, 2k + 1)."""
    partner = vertical.tolist()
    seen = bytearray(len(partner))
    rings = []
    for start in range(len(partner)):
        if seen[start]:
            continue
        ring, corner = [], start
        while not seen[corner]:
            seen[corner] = seen[corner ^ 1] = 1
            ring += [corner, corner ^ 1]
            corner = partner[corner ^ 1]
        rings.append(np.array(ring, np.int64))
    return rings


def _without_repeats(points: Points) -> Points:
    """A slit may start at a corner; such a point would follow itself."""
    return points[(points != np.roll(points, 1, axis=0)).any(1)]


def _visited_twice(points: NDArray) -> NDArray[np.bool_]:
    _, inverse, counts = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    return counts[inverse.reshape(-1)] > 1


def _kept_between(points: NDArray, spans: list[tuple[int, int]], tolerance: float) -> list[int]:
    """Indices inside the ``spans`` (first, last) of an open line that Douglas-Peucker keeps."""
    kept, pending = [], list(spans)
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        distance = _distance_to_segment(points[first + 1 : last], points[first], points[last])
        farthest = int(distance.argmax())
        if distance[farthest] > tolerance:
            middle = first + 1 + farthest
            kept.append(middle)
            pending += [(first, middle), (middle, last)]
    return kept


def _distance_to_segment(points: NDArray, start: NDArray, end: NDArray) -> NDArray[np.float64]:
    along = (end - start).astype(np.float64)
    length_squared = float(along @ along)
    offset = points - start
    if length_squared == 0:
        return np.hypot(offset[:, 0], offset[:, 1])
    position = np.clip(offset @ along / length_squared, 0, 1)
    nearest = offset - position[:, None] * along
    return np.hypot(nearest[:, 0], nearest[:, 1])
