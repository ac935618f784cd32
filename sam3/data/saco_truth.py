"""What the annotators of SA-Co/Gold and SA-Co/Silver saw: the objects of every (image, phrase) pair, for evaluation.

Read entry by entry and kept in columns, so that a file of a million pairs fits. Source: spec/evaluation.md 1.1.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam3.data.instance_table import InstanceTable, IouType, TableBuilder, entry_name
from sam3.errors import DataError, listed
from sam3.io.json_stream import iterate_blocks

_LISTS = ("images", "annotations", "categories")
MAX_ID = 1 << 62


@dataclass(frozen=True)
class GroundTruth:
    """What one annotator saw; P pairs in the order of the file."""

    path: str
    pair_ids: np.ndarray  # (P,) int64
    is_exhaustive: np.ndarray  # (P,) bool: every instance is annotated and separate; only such pairs are evaluated
    image_sizes: np.ndarray  # (P, 2) int64 (height, width), zeros where the file does not say
    category_ids: np.ndarray  # int64, of the categories that exist
    objects: InstanceTable  # without crowds

    def exhaustive_pairs(self) -> np.ndarray:
        """Ids of the pairs that this annotator marked as exhaustive, in the order of the file."""
        return self.pair_ids[self.is_exhaustive]

    def other_pairs(self) -> np.ndarray:
        """Ids of the pairs that this annotator did not mark as exhaustive."""
        return self.pair_ids[~self.is_exhaustive]

    def sizes_of(self, pair_ids: Iterable[int]) -> dict[int, tuple[int, int]]:
        """(height, width) of the images of those of the pairs that this file lists with a size."""
        wanted = set(pair_ids)
        if not wanted:
            return {}
        rows = np.flatnonzero(np.isin(self.pair_ids, np.array(sorted(wanted), dtype=np.int64)))
        sizes = {int(self.pair_ids[row]): tuple(self.image_sizes[row].tolist()) for row in rows}
        return {pair_id: size for pair_id, size in sizes.items() if min(size) > 0}


def read_ground_truth(path: str | Path, iou_type: IouType = "segm") -> GroundTruth:
    """Read and check one annotator's file.

    Args:
        path: of the JSON file.
        iou_type: ``"segm"`` keeps the masks of the objects, ``"bbox"`` their boxes.

    Raises:
        DataError: the file is missing or no JSON, or an entry is wrong; the message names file, entry and field.
    """
    pairs = _Pairs(path)
    builder = TableBuilder(path, "annotations", iou_type)
    category_ids = array("q")
    counts: dict[str, int] = {}
    for name, entries in iterate_blocks(path, _LISTS):
        first = counts.setdefault(name, 0)
        counts[name] += len(entries)
        if name == "images":
            pairs.extend(first, entries)
        elif name == "annotations":
            _add_objects(builder, first, entries)
        else:
            for position, entry in enumerate(entries, start=first):
                _require_object(entry, path, name, position)
                category_ids.append(whole_number(entry.get("id"), path, name, position, "id"))
    absent = [name for name in _LISTS if name not in counts]
    if absent:
        raise DataError(f"{path} lacks {', '.join(absent)}; expected an SA-Co file with {', '.join(_LISTS)}")
    truth = pairs.finish(builder.finish(), np.array(category_ids, dtype=np.int64))
    _require_known_pairs(truth)
    _draw_polygons(truth)
    return truth


def whole_number(value: Any, path: str | Path, name: str, position: int, field: str) -> int:
    """``value`` if it is an id."""
    if type(value) is not int or not -MAX_ID < value < MAX_ID:
        raise DataError(f"{entry_name(path, name, position)}: {field} must be a whole number, got {value!r}")
    return value


def _require_object(entry: Any, path: str | Path, name: str, position: int) -> None:
    if type(entry) is not dict:
        raise DataError(f"{entry_name(path, name, position)} must be an object, got {type(entry).__name__}")


class _Pairs:
    """The columns of ``images``."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.ids = array("q")
        self.is_exhaustive = array("b")
        self.sizes = array("q")

    def extend(self, first: int, entries: list[Any]) -> None:
        """Neighbours in the list, the first at position ``first``: all in one go if nothing about them is unusual."""
        try:
            ids, flags = [entry["id"] for entry in entries], [entry["is_instance_exhaustive"] for entry in entries]
            sides = [entry.get(side, 0) for entry in entries for side in ("height", "width")]
            is_usual = set(map(type, ids)) | set(map(type, sides)) <= {int} and set(flags) <= {0, 1}
            columns = array("q", ids), array("q", sides)
        except (LookupError, TypeError, AttributeError, OverflowError):
            is_usual = False
        if not is_usual:
            for position, entry in enumerate(entries, start=first):
                _require_object(entry, self.path, "images", position)
                self._add(position, entry)
            return
        self.ids += columns[0]
        self.sizes += columns[1]
        self.is_exhaustive.extend([int(flag) for flag in flags])

    def _add(self, position: int, entry: dict[str, Any]) -> None:
        get = entry.get
        pair_id, flag, height, width = get("id"), get("is_instance_exhaustive"), get("height", 0), get("width", 0)
        if not type(pair_id) is type(height) is type(width) is int:
            for field, value in (("id", pair_id), ("height", height), ("width", width)):
                whole_number(value, self.path, "images", position, field)
        if flag != 0 and flag != 1:
            name = entry_name(self.path, "images", position)
            raise DataError(f"{name}: is_instance_exhaustive must be 0 or 1, got {flag!r}")
        try:
            self.ids.append(pair_id)
            self.sizes.extend((height, width))
        except OverflowError:
            name = entry_name(self.path, "images", position)
            raise DataError(f"{name}: id, height or width is too large") from None
        self.is_exhaustive.append(flag == 1)

    def finish(self, objects: InstanceTable, category_ids: np.ndarray) -> GroundTruth:
        pair_ids = np.array(self.ids, dtype=np.int64)
        unique, counts = np.unique(pair_ids, return_counts=True)
        if len(unique) != len(pair_ids):
            raise DataError(
                f"{self.path}: images lists these ids more than once: {listed(unique[counts > 1].tolist())}"
            )
        return GroundTruth(
            path=str(self.path),
            pair_ids=pair_ids,
            is_exhaustive=np.array(self.is_exhaustive, dtype=bool),
            image_sizes=np.array(self.sizes, dtype=np.int64).reshape(-1, 2),
            category_ids=category_ids,
            objects=objects,
        )


def _add_objects(builder: TableBuilder, first: int, entries: list[Any]) -> None:
    """Neighbours in the list, the first at position ``first``: all in one go if nothing about them is unusual."""
    field = "segmentation" if builder.iou_type == "segm" else "bbox"
    try:
        kept = [row for row, entry in enumerate(entries) if not entry.get("iscrowd")]
        things = entries if len(kept) == len(entries) else [entries[row] for row in kept]
        shapes = [entry[field] for entry in things]
        builder.extend([first + row for row in kept], [entry["image_id"] for entry in things], shapes)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):  # DataError is a ValueError
        for position, entry in enumerate(entries, start=first):
            _require_object(entry, builder.path, "annotations", position)
            _add_object(builder, position, entry)


def _add_object(builder: TableBuilder, position: int, entry: dict[str, Any]) -> None:
    field = "segmentation" if builder.iou_type == "segm" else "bbox"
    pair_id = whole_number(entry.get("image_id"), builder.path, "annotations", position, "image_id")
    if entry.get("iscrowd"):
        return
    shape = entry.get(field)
    if not shape:
        name = entry_name(builder.path, "annotations", position)
        raise DataError(f"{name}: {field} is missing; comparing {builder.iou_type} needs it")
    builder.add(position, pair_id=pair_id, category_id=0)
    builder.add_shape(position, **{"segmentation" if field == "segmentation" else "box": shape})


def _require_known_pairs(truth: GroundTruth) -> None:
    objects = truth.objects
    unknown = np.flatnonzero(~np.isin(objects.pair_ids, truth.pair_ids))
    if len(unknown):
        row = unknown[0]
        name = entry_name(truth.path, "annotations", int(objects.positions[row]))
        raise DataError(f"{name}: image_id {objects.pair_ids[row]} is not listed in images")


def _draw_polygons(truth: GroundTruth) -> None:
    sizes = truth.sizes_of(truth.objects.undrawn_pairs())
    for row in truth.objects.undrawn:
        if int(truth.objects.pair_ids[row]) not in sizes:
            name = entry_name(truth.path, "annotations", int(truth.objects.positions[row]))
            raise DataError(f"{name}: segmentation is no compressed RLE, and its image has no height and width")
    truth.objects.draw(sizes)
