"""Many instances in columns: what evaluation keeps of an annotation or prediction file, in little memory.

Masks stay compressed text. Rows are found by the pair (image, phrase) they belong to.
"""

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sam3.errors import DataError
from sam3.ops import rle

IouType = Literal["segm", "bbox"]
IOU_TYPES: tuple[IouType, ...] = ("segm", "bbox")

_CHECKED_AT_ONCE = 256  # masks
_MAX_SIDE = 1 << 20  # pixels


@dataclass(frozen=True)
class InstanceTable:
    """N instances in the order of the file they were read from."""

    path: str  # of the file
    name: str  # of the list in it, "" where the file is one list
    positions: np.ndarray  # (N,) int64, of the entry in the list
    pair_ids: np.ndarray  # (N,) int64
    category_ids: np.ndarray  # (N,) int64
    scores: np.ndarray  # (N,) float64, empty of ground truth
    boxes: np.ndarray | None  # (N, 4) float64 xywh
    texts: list[str] | None  # N compressed masks ...
    sizes: list[tuple[int, int]] | None  # ... and their (H, W)
    undrawn: dict[int, Any]  # row -> polygons (or runs in another form) that wait for the size of their image

    def __len__(self) -> int:
        return len(self.pair_ids)

    def by_pair(self) -> "InstanceTable":
        """The same instances sorted by pair, in the order of the file within a pair."""
        if (self.pair_ids[1:] >= self.pair_ids[:-1]).all():
            return self
        order = np.argsort(self.pair_ids, kind="stable")
        columns = {name: getattr(self, name) for name in ("positions", "pair_ids", "category_ids", "scores", "boxes")}
        taken: dict[str, Any] = {
            name: column[order] for name, column in columns.items() if column is not None and len(column)
        }
        if self.texts is not None:
            rows = order.tolist()
            taken |= {"texts": [self.texts[row] for row in rows], "sizes": [self.sizes[row] for row in rows]}
        return replace(self, **taken)

    def bounds_of(self, pair_ids: np.ndarray) -> list[tuple[int, int]]:
        """First row and the one behind the last of each of ``pair_ids``; the table must be sorted by pair."""
        starts, stops = (np.searchsorted(self.pair_ids, pair_ids, side=side).tolist() for side in ("left", "right"))
        return list(zip(starts, stops, strict=True))

    def shapes(self, start: int, stop: int) -> list[rle.Rle] | np.ndarray:
        """The masks, or without masks the boxes (M, 4), of M neighbouring rows."""
        if self.texts is None:
            return self.boxes[start:stop]
        if start == stop:
            return []
        return [
            {"size": size, "counts": text}
            for size, text in zip(self.sizes[start:stop], self.texts[start:stop], strict=True)
        ]

    def undrawn_pairs(self) -> set[int]:
        """Pairs whose image size :meth:`draw` asks for."""
        return {int(self.pair_ids[row]) for row in self.undrawn}

    def draw(self, image_sizes: Mapping[int, tuple[int, int]]) -> None:
        """Turn what waits for the size of its image into a compressed mask.

        Args:
            image_sizes: pair -> (height, width); instances of other pairs keep an empty mask.

        Raises:
            DataError: a segmentation is not usable.
        """
        for row, segmentation in self.undrawn.items():
            size = image_sizes.get(int(self.pair_ids[row]))
            if size is not None:
                self._draw(row, segmentation, size)
        self.undrawn.clear()

    def _draw(self, row: int, segmentation: Any, size: tuple[int, int]) -> None:
        name = entry_name(self.path, self.name, int(self.positions[row]))
        try:
            mask = rle.from_any(segmentation, *size)
        except DataError as error:
            raise DataError(f"{name}: segmentation: {error}") from error
        if self.boxes is not None:
            self.boxes[row] = rle.to_box_xywh(mask)
        else:
            self.texts[row] = mask["counts"]
            self.sizes[row] = (mask["size"][0], mask["size"][1])


def entry_name(path: str | Path, name: str, position: int) -> str:
    """``file: annotations[3]`` or ``file: record 3``, for messages."""
    return f"{path}: {name}[{position}]" if name else f"{path}: record {position}"


class TableBuilder:
    """Collects the entries of one list of one file; what is wrong is named by file, entry and field.

    Args:
        path: of the file.
        name: of the list, ``""`` where the file is one list.
        iou_type: whether masks or boxes are kept.
    """

    def __init__(self, path: str | Path, name: str, iou_type: IouType) -> None:
        self.path = str(path)
        self.name = name
        self.iou_type = iou_type
        self._positions = array("q")
        self._pair_ids = array("q")
        self._category_ids = array("q")
        self._scores = array("d")
        self._boxes = array("d")
        self._texts: list[str] = []
        self._sizes: list[tuple[int, int]] = []
        self._known_sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self._undrawn: dict[int, Any] = {}
        self._checked = 0  # masks found sound so far

    def add(self, position: int, *, pair_id: int, category_id: int, score: float | None = None) -> None:
        """Begin one instance; its mask or box follows."""
        self._positions.append(position)
        self._pair_ids.append(pair_id)
        self._category_ids.append(category_id)
        if score is not None:
            self._scores.append(score)

    def add_shape(self, position: int, *, segmentation: Any = None, box: Any = None) -> None:
        """The mask or the box of the instance begun last; a box that is not given is that of the segmentation.

        Raises:
            DataError: the shape is not usable.
        """
        if self.iou_type == "segm":
            self._add_mask(position, segmentation)
        elif box is not None:
            self._boxes.extend(self.checked_box(position, box))
        elif _is_compressed(segmentation):
            self._boxes.extend(self._mask_box(position, segmentation))
        else:
            self._undrawn[len(self._positions) - 1] = segmentation
            self._boxes.extend((0.0, 0.0, 0.0, 0.0))

    def extend(
        self,
        positions: list[int],
        pair_ids: list[int],
        shapes: list[Any],
        *,
        category_ids: list[int] | None = None,
        scores: list[float] | None = None,
    ) -> None:
        """Many instances, by default of category 0: compressed masks of sound runs, or boxes. All are added or none.

        Raises:
            LookupError, TypeError, ValueError, OverflowError: one of them is something else; add them one by one to
                find out which.
        """
        ids, kinds = array("q", pair_ids), array("q", category_ids or [0] * len(positions))
        if bool in set(map(type, pair_ids)) | set(map(type, category_ids or ())):
            raise TypeError("an id is no number")
        if self.iou_type == "bbox":
            numbers = array("d", chain.from_iterable(shapes))
            if set(map(len, shapes)) - {4} or not np.isfinite(numbers).all():
                raise ValueError("a box is no box")
            self._boxes.extend(numbers)
        else:
            sizes = array("q", chain.from_iterable([mask["size"] for mask in shapes]))
            grid = np.array(sizes, dtype=np.int64).reshape(len(shapes), 2)
            if (
                {len(mask["size"]) for mask in shapes} - {2}
                or grid.size
                and (grid.min() < 0 or grid.max() >= _MAX_SIDE)
            ):
                raise ValueError("a size is no size")
            texts = [mask["counts"] for mask in shapes]
            self._check_masks()
            rle.areas([text.encode() for text in texts], grid[:, 0], grid[:, 1])
            keys = zip(sizes[::2], sizes[1::2], strict=True)
            self._texts += texts
            self._sizes += [self._known_sizes.setdefault(key, key) for key in keys]
            self._checked = len(self._texts)
        self._positions.extend(positions)
        self._pair_ids.extend(ids)
        self._category_ids.extend(kinds)
        self._scores.extend(scores or ())

    def _add_mask(self, position: int, segmentation: Any) -> None:
        if not _is_compressed(segmentation):
            self._undrawn[len(self._positions) - 1] = segmentation
            self._texts.append("0")
            self._sizes.append((0, 0))
            return
        size = segmentation.get("size")
        try:
            known = self._known_sizes[size[0], size[1]]
        except (LookupError, TypeError):
            known = self._new_size(position, size)
        self._texts.append(segmentation["counts"])
        self._sizes.append(known)
        if len(self._texts) - self._checked >= _CHECKED_AT_ONCE:
            self._check_masks()

    def _new_size(self, position: int, size: Any) -> tuple[int, int]:
        is_pair = type(size) is list and len(size) == 2
        if not is_pair or not all(type(side) is int and 0 <= side < _MAX_SIDE for side in size):
            name = entry_name(self.path, self.name, position)
            raise DataError(f"{name}: segmentation.size must be [height, width] in whole pixels, got {size!r}")
        self._known_sizes[size[0], size[1]] = (size[0], size[1])
        return self._known_sizes[size[0], size[1]]

    def checked_box(self, position: int, box: Any) -> list[float]:
        """``box`` if it is four finite numbers."""
        if type(box) is not list or len(box) != 4 or not all(map(_is_number, box)):
            name = entry_name(self.path, self.name, position)
            raise DataError(f"{name}: bbox must be four finite numbers [x, y, w, h], got {box!r}")
        return box

    def _mask_box(self, position: int, segmentation: dict[str, Any]) -> list[float]:
        try:
            return rle.to_box_xywh(segmentation)
        except DataError as error:
            raise DataError(f"{entry_name(self.path, self.name, position)}: segmentation: {error}") from error

    def finish(self) -> InstanceTable:
        """The table.

        Raises:
            DataError: a mask is damaged.
        """
        self._check_masks()
        is_masks = self.iou_type == "segm"
        return InstanceTable(
            path=self.path,
            name=self.name,
            positions=np.array(self._positions, dtype=np.int64),
            pair_ids=np.array(self._pair_ids, dtype=np.int64),
            category_ids=np.array(self._category_ids, dtype=np.int64),
            scores=np.array(self._scores, dtype=np.float64),
            boxes=None if is_masks else np.array(self._boxes, dtype=np.float64).reshape(-1, 4),
            texts=self._texts if is_masks else None,
            sizes=self._sizes if is_masks else None,
            undrawn=self._undrawn,
        )

    def _check_masks(self) -> None:
        """The C code that compares masks trusts them, so they are checked first, many at once."""
        try:
            texts = [text.encode() for text in self._texts[self._checked :]]
            sizes = np.array(self._sizes[self._checked :], dtype=np.int64).reshape(-1, 2)
            rle.areas(texts, sizes[:, 0], sizes[:, 1])
        except DataError:
            for row in range(self._checked, len(self._texts)):
                self._check_mask(row)
        self._checked = len(self._texts)

    def _check_mask(self, row: int) -> None:
        try:
            rle.area({"size": list(self._sizes[row]), "counts": self._texts[row]})
        except DataError as error:
            name = entry_name(self.path, self.name, self._positions[row])
            raise DataError(f"{name}: segmentation: {error}") from error


def _is_number(value: Any) -> bool:
    return (type(value) is float or type(value) is int) and math.isfinite(value)


def _is_compressed(segmentation: Any) -> bool:
    return type(segmentation) is dict and type(segmentation.get("counts")) is str
