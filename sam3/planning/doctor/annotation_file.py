"""The structure of an annotation file, read more patiently than training does: every defect, not the first."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sam3.errors import DataError
from sam3.io.files import read_json
from sam3.planning.doctor.findings import Drop, EntryKind, Finding, Repair, SetFields, UnifyCategories
from sam3.planning.doctor.locate import Split

_LISTS: tuple[EntryKind, ...] = ("images", "annotations", "categories")


@dataclass
class Content:
    """A split's annotation file. Positions count the entries of a list from 0, whatever their ids are."""

    split: Split
    document: dict[str, Any]
    categories: dict[int, str] = field(default_factory=dict)  # id -> name, usable ones
    images: dict[int, dict[str, Any]] = field(default_factory=dict)  # position -> entry with an id and a file name
    annotations: dict[int, dict[str, Any]] = field(default_factory=dict)  # position -> entry with image and category
    image_position: dict[int, int] = field(default_factory=dict)  # id -> position

    def finding(
        self, code: str, kind: EntryKind | None, position: int, message: str, *repairs: Repair, file: str | None = None
    ) -> Finding:
        """A finding in this file; ``kind`` None = the file as a whole."""
        entry = "" if kind is None else entry_name(kind, position, self.document[kind][position])
        return Finding(code, self.split.name, file or str(self.split.ann_file), entry, message, repairs)

    def image_of(self, annotation: dict[str, Any]) -> dict[str, Any]:
        """The entry that an annotation of :attr:`annotations` belongs to."""
        return self.images[self.image_position[annotation["image_id"]]]


def entry_name(kind: EntryKind, position: int, entry: Any) -> str:
    """``annotations[3] (id 17)``."""
    identity = entry.get("id") if isinstance(entry, dict) else None
    return f"{kind}[{position}]" + ("" if identity is None else f" (id {identity})")


def read_content(split: Split) -> tuple[Content, list[Finding]]:
    """What can be used of a split's annotation file, and what cannot."""
    try:
        document = read_json(split.ann_file)
    except DataError as error:
        return _nothing(split, str(error))
    if not isinstance(document, dict) or not all(isinstance(document.get(name), list) for name in _LISTS):
        return _nothing(split, "it must be an object with the lists images, annotations and categories")
    content = Content(split, document)
    findings = [*_read_categories(content), *_read_images(content), *_read_annotations(content)]
    return content, findings


def _nothing(split: Split, reason: str) -> tuple[Content, list[Finding]]:
    content = Content(split, {name: [] for name in _LISTS})
    return content, [content.finding("annotations-unreadable", None, 0, reason)]


def _read_categories(content: Content) -> Iterator[Finding]:
    names: dict[str, int] = {}
    for position, entry in enumerate(content.document["categories"]):
        problem = _category_problem(entry, content.categories)
        if problem:
            drop = Drop("categories", position)
            yield content.finding("category-invalid", "categories", position, problem, drop)
            continue
        name = str(entry["name"])
        content.categories[entry["id"]] = name
        first = names.setdefault(name, entry["id"])
        if first != entry["id"]:
            message = f"the ids {first} and {entry['id']} are both called {name!r}"
            yield content.finding("category-name-repeated", "categories", position, message, UnifyCategories())
    if not content.categories:
        yield content.finding("no-categories", None, 0, "there is no usable category")


def _category_problem(entry: Any, known: dict[int, str]) -> str | None:
    if not isinstance(entry, dict) or not is_integer(entry.get("id")):
        return "a category needs a whole number as id"
    if not str(entry.get("name") or "").strip():
        return "a category needs a name, which is its prompt"
    if entry["id"] in known:
        return f"the id {entry['id']} already belongs to {known[entry['id']]!r}"
    return None


def _read_images(content: Content) -> Iterator[Finding]:
    entries = content.document["images"]
    if not entries:
        yield content.finding("split-empty", None, 0, "the list images is empty")
    files: dict[str, int] = {}
    for position, entry in enumerate(entries):
        drop = Drop("images", position)
        if not isinstance(entry, dict) or not is_integer(entry.get("id")) or not entry.get("file_name"):
            message = "an image needs a whole number as id and a file_name"
            yield content.finding("image-invalid", "images", position, message, drop)
            continue
        if entry["id"] in content.image_position:
            first = entries[content.image_position[entry["id"]]]["file_name"]
            message = f"{entry['file_name']} has the id of {first}"
            yield content.finding("image-id-repeated", "images", position, message, drop)
            continue
        content.image_position[entry["id"]] = position
        content.images[position] = entry
        first = files.setdefault(str(entry["file_name"]), position)
        if first != position:
            moves = [
                SetFields("annotations", index, {"image_id": entries[first]["id"]})
                for index, annotation in enumerate(content.document["annotations"])
                if isinstance(annotation, dict) and annotation.get("image_id") == entry["id"]
            ]
            message = f"{entry['file_name']} is also the file of image {entries[first]['id']}"
            yield content.finding("image-listed-twice", "images", position, message, *moves, drop)


def _read_annotations(content: Content) -> Iterator[Finding]:
    entries = content.document["annotations"]
    ids: dict[Any, int] = {}
    numbers = [entry["id"] for entry in entries if isinstance(entry, dict) and is_integer(entry.get("id"))]
    free = max([0, *numbers]) + 1
    for position, entry in enumerate(entries):
        problem = _annotation_problem(content, entry)
        if problem:
            code, message = problem
            yield content.finding(code, "annotations", position, message, Drop("annotations", position))
            continue
        content.annotations[position] = entry
        identity = entry.get("id")
        if identity is not None and ids.setdefault(_hashable(identity), position) != position:
            message = f"annotations[{ids[_hashable(identity)]}] has this id, too"
            new_id = SetFields("annotations", position, {"id": free})
            yield content.finding("annotation-id-repeated", "annotations", position, message, new_id)
            free += 1


def _annotation_problem(content: Content, entry: Any) -> tuple[str, str] | None:
    if not isinstance(entry, dict):
        return "annotation-invalid", f"an annotation must be an object, got {type(entry).__name__}"
    missing = [key for key in ("image_id", "category_id") if entry.get(key) is None]
    if missing:
        return "annotation-invalid", f"it lacks {' and '.join(missing)}"
    if _hashable(entry["image_id"]) not in content.image_position:
        return "annotation-without-image", f"image {entry['image_id']!r} is not among the images"
    if _hashable(entry["category_id"]) not in content.categories:
        return "annotation-without-category", f"category {entry['category_id']!r} is not among the categories"
    return None


def _hashable(value: Any) -> Any:
    return value if isinstance(value, int | str | float) else repr(value)


def is_integer(value: Any) -> bool:
    """A whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)
