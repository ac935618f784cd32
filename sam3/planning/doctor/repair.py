"""Findings -> a repaired copy of the data set. The input is only read.

The copy has the layout that training expects, whatever the input's: ``NEW/{train,val}/{images,annotations.json}``,
with ``repairs.json``, the list of everything that was changed. Pictures are hard links where the disk allows it.
"""

import copy
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from sam3.errors import UserError
from sam3.io.files import write_json
from sam3.ops import rle
from sam3.planning.doctor.annotation_file import Content
from sam3.planning.doctor.examination import Examination
from sam3.planning.doctor.findings import Drop, Rescale, SetFields, StripOrientation, UnifyCategories
from sam3.planning.doctor.objects import read_box
from sam3.planning.doctor.orientation import write_as_stored

_T = TypeVar("_T")
_NAMES = {"data": "train", "valid": "val"}  # what a split is called in the copy
REPAIRS = "repairs.json"


@dataclass
class _Draft:
    """The annotation file of a split on its way to being whole; positions are those of the input."""

    content: Content
    document: dict[str, Any]
    dropped: dict[str, set[int]] = field(
        default_factory=lambda: {"images": set(), "annotations": set(), "categories": set()}
    )
    stripped: set[int] = field(default_factory=set)  # images whose EXIF orientation goes

    def kept(self, kind: str) -> list[Any]:
        return [entry for index, entry in enumerate(self.document[kind]) if index not in self.dropped[kind]]


def write_repaired(
    examination: Examination, target: Path, progress: Callable[[Iterable[_T], int], Iterable[_T]] | None = None
) -> int:
    """Write the copy; returns the number of findings it repairs.

    Raises:
        UserError: ``target`` exists and is not empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"--fix {target}: it exists already; name a new folder")
    drafts = [_Draft(content, copy.deepcopy(content.document)) for content in examination.contents]
    repaired = [finding for finding in examination.findings if finding.repairs]
    for draft in drafts:
        own = [finding for finding in repaired if finding.split == draft.content.split.name]
        _apply(draft, [repair for finding in own for repair in finding.repairs])
    if any(isinstance(repair, UnifyCategories) for finding in repaired for repair in finding.repairs):
        _unify_categories(drafts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".partial.{target.name}.", dir=target.parent) as name:
        folder = Path(name) / "copy"
        for draft in drafts:
            _write_split(draft, folder / _NAMES.get(draft.content.split.name, draft.content.split.name), progress)
        write_json(folder / REPAIRS, [finding.to_dict() for finding in repaired], indent=1)
        if target.is_dir():
            target.rmdir()
        os.replace(folder, target)
    return len(repaired)


def _apply(draft: _Draft, repairs: Sequence[Any]) -> None:
    """Fields first, then sizes, which change what the fields now say; what is left out comes last."""
    for repair in repairs:
        if isinstance(repair, SetFields):
            _set(draft.document[repair.kind][repair.index], repair.values)
    for repair in repairs:
        if isinstance(repair, Rescale):
            _rescale(draft, repair.index, repair.size)
    draft.stripped |= {repair.index for repair in repairs if isinstance(repair, StripOrientation)}
    for repair in repairs:
        if isinstance(repair, Drop):
            draft.dropped[repair.kind].add(repair.index)
    _drop_orphans(draft)


def _set(entry: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if value is None:
            entry.pop(key, None)
        else:
            entry[key] = value
    if "bbox" in values:
        entry["area"] = values["bbox"][2] * values["bbox"][3]


def _drop_orphans(draft: _Draft) -> None:
    """Annotations of images that are left out, unless they moved to another entry of the same picture."""
    kept = {entry["id"] for entry in draft.kept("images") if isinstance(entry, dict)}
    for index in draft.content.annotations:
        if draft.document["annotations"][index]["image_id"] not in kept:
            draft.dropped["annotations"].add(index)


def _rescale(draft: _Draft, position: int, size: tuple[int, int]) -> None:
    image = draft.document["images"][position]
    across, down = size[1] / image["width"], size[0] / image["height"]
    image["height"], image["width"] = size
    for index, annotation in draft.content.annotations.items():
        if draft.content.image_position[annotation["image_id"]] == position:
            _rescale_annotation(draft.document["annotations"][index], across, down, size)


def _rescale_annotation(entry: dict[str, Any], across: float, down: float, size: tuple[int, int]) -> None:
    segmentation = entry.get("segmentation")
    if read_box(entry.get("bbox")) is not None:
        entry["bbox"] = [value * factor for value, factor in zip(entry["bbox"], (across, down) * 2, strict=True)]
    if isinstance(segmentation, dict):
        entry["segmentation"] = _resized(segmentation, size)
    elif segmentation:
        parts = [segmentation] if isinstance(segmentation[0], int | float) else segmentation
        entry["segmentation"] = [
            [value * (down if place % 2 else across) for place, value in enumerate(part)] for part in parts
        ]
    if isinstance(entry.get("area"), int | float):
        entry["area"] *= across * down


def _resized(mask: dict[str, Any], size: tuple[int, int]) -> rle.Rle:
    picture = Image.fromarray(rle.decode(mask)).resize(size[::-1], Image.Resampling.NEAREST)
    return rle.encode(np.asarray(picture))


def _unify_categories(drafts: Sequence[_Draft]) -> None:
    """One list of names for all splits, in the order of the first that has each, numbered as there if free."""
    ids: dict[str, int] = {}
    for draft in drafts:
        for entry in draft.kept("categories"):
            wanted = entry["id"] if entry["id"] not in ids.values() else max([0, *ids.values()]) + 1
            ids.setdefault(str(entry["name"]), wanted)
    for draft in drafts:
        name_of = {entry["id"]: str(entry["name"]) for entry in draft.kept("categories")}
        for entry in draft.kept("annotations"):
            entry["category_id"] = ids[name_of[entry["category_id"]]]
        draft.document["categories"] = [{"id": number, "name": name} for name, number in ids.items()]
        draft.dropped["categories"] = set()


def _write_split(draft: _Draft, folder: Path, progress: Callable[..., Iterable[Any]] | None) -> None:
    images = [
        (index, entry) for index, entry in enumerate(draft.document["images"]) if index not in draft.dropped["images"]
    ]
    stream = images if progress is None else progress(images, len(images))
    (folder / "images").mkdir(parents=True)
    for index, entry in stream:
        source = draft.content.split.img_folder / str(entry["file_name"])
        entry["file_name"] = _name_in_copy(str(entry["file_name"]))
        if index in draft.stripped:
            entry["file_name"] = write_as_stored(source, folder / "images", entry["file_name"])
        elif source.is_file():
            _link(source, folder / "images" / entry["file_name"])
    lists = {kind: draft.kept(kind) for kind in ("images", "annotations", "categories")}
    write_json(folder / "annotations.json", draft.document | lists)


def _name_in_copy(name: str) -> str:
    """The same path below the image folder; without what would lead out of it."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "/", ".")]
    return "/".join(part.replace(":", "_") for part in parts)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return  # another entry of the same picture
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, target)
