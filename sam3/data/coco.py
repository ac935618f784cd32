"""COCO annotation file -> checked records: one image, its queries, their objects. No torch.

Source: ``spec/training.md`` 5.1. Images are sorted by id, annotations keep their order in the file,
categories are sorted by id and cut into chunks; every (image, chunk) pair is one record.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sam3.data.prompts import Prompts, phrases_of_categories
from sam3.errors import DataError
from sam3.io.files import read_json
from sam3.ops.rle import Rle, from_any

_log = logging.getLogger(__name__)

BoxRule = Literal["clip", "reference"]


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One annotated instance."""

    box: tuple[float, float, float, float]  # xyxy, pixels
    area: float  # of the box, as a share of the image
    is_crowd: bool
    mask: Rle | None


@dataclass(frozen=True, slots=True)
class QueryRecord:
    """One phrase asked of an image; no objects = the phrase is absent."""

    phrase: str
    category_id: int
    object_indices: tuple[int, ...]  # into the record's objects


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image with the queries of one category chunk."""

    image_id: int
    file_name: str
    height: int
    width: int
    objects: tuple[ObjectRecord, ...]
    queries: tuple[QueryRecord, ...]


@dataclass(frozen=True)
class CocoAnnotations:
    """A COCO file whose keys, ids and references have been checked."""

    path: Path
    categories: dict[int, str]  # id -> name, by id
    images: dict[int, dict[str, Any]]  # id -> entry, by id
    annotations: dict[int, list[dict[str, Any]]]  # image id -> entries in file order


def records_of(
    coco: CocoAnnotations,
    *,
    prompts: Prompts = None,
    include_negatives: bool = True,
    category_chunk_size: int | None = None,
    with_masks: bool = True,
    box_rule: BoxRule = "clip",
) -> list[ImageRecord]:
    """One record for each image and each chunk of categories.

    Args:
        prompts: see :func:`sam3.data.prompts.phrases_of_categories`.
        include_negatives: also ask for categories that an image does not show. Without them a record can
            be left without any query.
        category_chunk_size: categories asked at once; ``None`` = all.
        with_masks: read the segmentations too.
        box_rule: what happens to a box that leaves the image. ``"clip"`` cuts it at the border.
            ``"reference"`` limits each number of the normalised xywh to [0, 1] before adding them up, which
            moves a box that sticks out on the left to the right (``spec/training.md`` 11, trap 1); only
            the parity program asks for it.

    Raises:
        DataError: an annotation is not usable; the message names the file and the entry.
    """
    phrases = phrases_of_categories(coco.categories, prompts)
    chunks = category_chunks(list(coco.categories), category_chunk_size)
    records = []
    for image_id, image in coco.images.items():
        objects: dict[int, list[ObjectRecord]] = {}
        for entry in coco.annotations.get(image_id, []):
            record = _object_record(coco.path, entry, image, with_masks=with_masks, box_rule=box_rule)
            objects.setdefault(entry["category_id"], []).append(record)
        for chunk in chunks:
            asked = {category_id: phrases[category_id] for category_id in chunk}
            records.append(_image_record(image, objects, asked, include_negatives))
    _warn_about_empty_boxes(coco.path, records)
    return records


def category_chunks(category_ids: Sequence[int], size: int | None) -> list[list[int]]:
    """Ids in groups of ``size`` neighbours; ``None`` = one group."""
    if size is not None and size < 1:
        raise DataError(f"category_chunk_size must be at least 1 or null, got {size}")
    step = size or max(len(category_ids), 1)
    return [list(category_ids[start : start + step]) for start in range(0, len(category_ids), step)]


def read_coco(ann_file: str | Path) -> CocoAnnotations:
    """Read and check a COCO file; nothing is converted yet.

    Raises:
        DataError: unreadable JSON, a missing key, a repeated id, or a reference to an id that does not exist.
        FileNotFoundError: there is no such file.
    """
    path = Path(ann_file)
    content = _read_json(path)
    images = _by_id(path, content, "images", required=("file_name", "width", "height"))
    categories = _by_id(path, content, "categories", required=("name",))
    if not categories:
        raise DataError(f"{path}: no categories; there is nothing to ask for")
    for image in images.values():
        _check_image(path, image)
    names = {category_id: str(entry["name"]) for category_id, entry in categories.items()}
    return CocoAnnotations(path, names, images, _annotations_by_image(path, content, images, names))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"annotation file {path} does not exist")
    content = read_json(path)
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(_get(content, key), list)]
    if missing:
        raise DataError(
            f"{path} is not a COCO annotation file: it must be an object with the lists images, annotations and "
            f"categories; missing: {', '.join(missing)}"
        )
    return content


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _by_id(path: Path, content: dict[str, Any], kind: str, *, required: Sequence[str]) -> dict[int, dict[str, Any]]:
    """Entries of one list, sorted by their id."""
    entries: dict[int, dict[str, Any]] = {}
    for position, entry in enumerate(content[kind]):
        _require_keys(path, f"{kind}[{position}]", entry, ("id", *required))
        if not _is_integer(entry["id"]):
            raise DataError(f"{path}: {kind}[{position}] has the id {entry['id']!r}; ids must be whole numbers")
        if entry["id"] in entries:
            raise DataError(f"{path}: the id {entry['id']} appears more than once in {kind}")
        entries[entry["id"]] = entry
    return dict(sorted(entries.items()))


def _annotations_by_image(
    path: Path, content: dict[str, Any], images: Mapping[int, Any], categories: Mapping[int, str]
) -> dict[int, list[dict[str, Any]]]:
    grouped: dict[int, list[dict[str, Any]]] = {}
    seen: set[int] = set()
    for position, entry in enumerate(content["annotations"]):
        name = _annotation_name(entry, position)
        _require_keys(path, name, entry, ("image_id", "category_id", "bbox"))
        if entry["image_id"] not in images:
            raise DataError(f"{path}: {name} belongs to image {entry['image_id']!r}, which is not among the images")
        if entry["category_id"] not in categories:
            raise DataError(
                f"{path}: {name} has the category {entry['category_id']!r}, which is not among the categories "
                f"{list(categories)}"
            )
        if entry.get("id") is not None:
            if entry["id"] in seen:
                raise DataError(f"{path}: the id {entry['id']!r} appears more than once in annotations")
            seen.add(entry["id"])
        grouped.setdefault(entry["image_id"], []).append(entry)
    return grouped


def _annotation_name(entry: Any, position: int) -> str:
    annotation_id = _get(entry, "id")
    return f"annotations[{position}]" if annotation_id is None else f"annotation {annotation_id}"


def _require_keys(path: Path, name: str, entry: Any, keys: Sequence[str]) -> None:
    if not isinstance(entry, dict):
        raise DataError(f"{path}: {name} must be an object, got {type(entry).__name__}")
    missing = [key for key in keys if entry.get(key) is None]
    if missing:
        raise DataError(f"{path}: {name} lacks {', '.join(missing)}")


def _check_image(path: Path, image: dict[str, Any]) -> None:
    sides = (image["width"], image["height"])
    if not all(_is_integer(side) and side > 0 for side in sides):
        raise DataError(
            f"{path}: image {image['id']} ({image['file_name']}) has width and height {sides}; "
            "both must be positive whole numbers"
        )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _object_record(
    path: Path, entry: dict[str, Any], image: dict[str, Any], *, with_masks: bool, box_rule: BoxRule
) -> ObjectRecord:
    height, width = image["height"], image["width"]
    name = f"{path}: annotation {entry.get('id')} of image {image['id']} ({image['file_name']})"
    xywh = _checked_xywh(name, entry["bbox"])
    if box_rule == "reference":
        x, y, w, h = (min(max(v / side, 0.0), 1.0) for v, side in zip(xywh, (width, height) * 2, strict=True))
        box = (x * width, y * height, (x + w) * width, (y + h) * height)
    else:
        x, y, w, h = xywh
        left, right = (min(max(v, 0.0), float(width)) for v in (x, x + w))
        top, bottom = (min(max(v, 0.0), float(height)) for v in (y, y + h))
        box = (left, top, right, bottom)
    area = (box[2] - box[0]) * (box[3] - box[1]) / (width * height)
    mask = _mask(name, entry.get("segmentation"), height, width) if with_masks else None
    return ObjectRecord(box=box, area=area, is_crowd=bool(entry.get("iscrowd", 0)), mask=mask)


def _checked_xywh(name: str, bbox: Any) -> tuple[float, float, float, float]:
    is_four_numbers = (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(isinstance(v, int | float) and math.isfinite(v) for v in bbox)
        and min(bbox[2:]) >= 0
    )
    if not is_four_numbers:
        raise DataError(f"{name}: bbox must be [x, y, width, height], finite and not negative in size, got {bbox!r}")
    return tuple(float(v) for v in bbox)


def _mask(name: str, segmentation: Any, height: int, width: int) -> Rle | None:
    if segmentation is None or segmentation == []:
        return None
    try:
        rle = from_any(segmentation, height, width)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if list(rle["size"]) != [height, width]:
        raise DataError(f"{name}: the mask has the size {rle['size']}, the image has [{height}, {width}]")
    return rle


def _image_record(
    image: dict[str, Any],
    objects: Mapping[int, Sequence[ObjectRecord]],
    phrases: Mapping[int, str],
    include_negatives: bool,
) -> ImageRecord:
    """Objects are listed query by query, so that a query's indices are neighbours."""
    kept: list[ObjectRecord] = []
    queries = []
    for category_id, phrase in phrases.items():
        own = objects.get(category_id, ())
        if own or include_negatives:
            queries.append(QueryRecord(phrase, category_id, tuple(range(len(kept), len(kept) + len(own)))))
            kept.extend(own)
    return ImageRecord(
        image_id=image["id"],
        file_name=image["file_name"],
        height=image["height"],
        width=image["width"],
        objects=tuple(kept),
        queries=tuple(queries),
    )


def _warn_about_empty_boxes(path: Path, records: Sequence[ImageRecord]) -> None:
    empty = [record.file_name for record in records for item in record.objects if item.area <= 0]
    if empty:
        _log.warning(
            "%s: %d boxes have no area inside their image (first: %s); training leaves them out",
            path,
            len(empty),
            empty[0],
        )
