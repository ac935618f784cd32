"""The pictures and objects of one split against its annotation file."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sam3.io.images import IMAGE_SUFFIXES
from sam3.planning.doctor.annotation_file import Content, is_integer
from sam3.planning.doctor.findings import Drop, Finding, Repair, Rescale, SetFields, StripOrientation
from sam3.planning.doctor.objects import check_object
from sam3.planning.doctor.pictures import Picture
from sam3.planning.doctor.settings import Settings

_SAME_ASPECT = 0.01


def check_pictures(content: Content, pictures: Mapping[int, Picture]) -> Iterator[Finding]:
    """Files that are missing or damaged, of another size than their entry says, listed twice, or not at all.

    Args:
        pictures: position of the image -> what its file says.
    """
    first_with: dict[str, int] = {}
    for position, entry in content.images.items():
        picture = pictures[position]
        if picture.is_missing:
            yield _missing(content, position, entry)
            continue
        if picture.problem is not None:
            yield _at(content, "image-corrupt", position, picture, picture.problem, Drop("images", position))
            continue
        yield from _check_size(content, position, entry, picture)
        first = first_with.setdefault(picture.digest, position)
        if first != position and pictures[first].path != picture.path:
            message = f"the same file as {content.images[first]['file_name']}"
            yield _at(content, "image-repeated", position, picture, message)
    yield from _unlisted(content)


def _at(content: Content, code: str, position: int, picture: Picture, message: str, *repairs: Repair) -> Finding:
    return content.finding(code, "images", position, message, *repairs, file=str(picture.path))


def _missing(content: Content, position: int, entry: Mapping[str, Any]) -> Finding:
    path = content.split.img_folder / str(entry["file_name"])
    folder = path.parent
    names = [other.name for other in folder.iterdir()] if folder.is_dir() else []
    close = [name for name in names if name.lower() == path.name.lower()]
    if len(close) == 1:
        spelled = Path(str(entry["file_name"])).with_name(close[0]).as_posix()
        message = f"there is no such file, but one called {close[0]}"
        repair: Repair = SetFields("images", position, {"file_name": spelled})
    else:
        message, repair = "there is no such file", Drop("images", position)
    return content.finding("image-missing", "images", position, message, repair, file=str(path))


def _check_size(content: Content, position: int, entry: Mapping[str, Any], picture: Picture) -> Iterator[Finding]:
    said = said_size(entry)
    if said is None:
        height, width = picture.size
        message = f"width and height are {entry.get('width')!r} and {entry.get('height')!r}"
        values = {"width": width, "height": height}
        yield _at(content, "image-invalid", position, picture, message, SetFields("images", position, values))
    elif said == picture.size:
        if picture.orientation != 1 and said == picture.stored:
            message = f"EXIF orientation {picture.orientation}: training turns the picture; see that its boxes fit"
            yield _at(content, "image-exif-doubtful", position, picture, message)
    elif said == picture.stored:
        message = (
            f"annotated at {_size(said)} as the pixels are stored, but EXIF orientation {picture.orientation} "
            f"turns the picture to {_size(picture.size)}"
        )
        yield _at(content, "image-exif-rotated", position, picture, message, StripOrientation(position))
    else:
        message = f"the entry says {_size(said)}, the file has {_size(picture.size)}"
        repair = _repair_size(content, position, said, picture.size)
        yield _at(content, "image-size-differs", position, picture, message, repair)


def _repair_size(content: Content, position: int, said: tuple[int, int], real: tuple[int, int]) -> Repair:
    """What the masks say about the size they were made for; without any, equal proportions mean a resized picture."""
    sizes = {
        tuple(segmentation["size"])
        for annotation in content.annotations.values()
        if content.image_position[annotation["image_id"]] == position
        and isinstance(segmentation := annotation.get("segmentation"), dict)
        and isinstance(segmentation.get("size"), list)
    }
    if sizes == {real}:
        return SetFields("images", position, {"width": real[1], "height": real[0]})
    is_resized = abs(said[0] * real[1] / (said[1] * real[0]) - 1) <= _SAME_ASPECT
    return Rescale(position, real) if is_resized and sizes <= {said} else Drop("images", position)


def said_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) of an image entry, if it is usable."""
    sides = (entry.get("height"), entry.get("width"))
    return sides if all(is_integer(side) and side > 0 for side in sides) else None


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _unlisted(content: Content) -> Iterator[Finding]:
    folder = content.split.img_folder
    if not folder.is_dir() or not content.images:
        return
    entries = [entry for entry in content.document["images"] if isinstance(entry, dict)]
    listed = {(folder / str(entry.get("file_name"))).resolve() for entry in entries}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.resolve() not in listed:
            message = "no entry names this picture; it takes no part"
            yield content.finding("image-unlisted", None, 0, message, file=str(path))


def check_objects(content: Content, pictures: Mapping[int, Picture], settings: Settings) -> Iterator[Finding]:
    """Every annotation, and how many there are of each image."""
    seen: dict[str, int] = {}
    counts: Counter[tuple[int, int]] = Counter()
    without_mask, with_mask = [], 0
    for position, annotation in content.annotations.items():
        image_position = content.image_position[annotation["image_id"]]
        counts[image_position, annotation["category_id"]] += not annotation.get("iscrowd")
        size = said_size(content.images[image_position]) or pictures[image_position].size
        if min(size) > 0:
            yield from check_object(content, position, size, with_masks=settings.with_masks)
        first = seen.setdefault(_identity(annotation), position)
        if first != position:
            message = f"the same as annotations[{first}]"
            yield content.finding(
                "annotation-repeated", "annotations", position, message, Drop("annotations", position)
            )
        if annotation.get("segmentation") in (None, []):
            without_mask.append(position)
        else:
            with_mask += 1
    yield from _missing_masks(content, without_mask, with_mask, settings)
    yield from _counts(content, counts, settings)


def _identity(annotation: Mapping[str, Any]) -> str:
    return repr([annotation.get(key) for key in ("image_id", "category_id", "bbox", "segmentation")])


def _missing_masks(content: Content, without: list[int], with_mask: int, settings: Settings) -> Iterator[Finding]:
    if not settings.with_masks or not without:
        return
    if not with_mask:
        yield content.finding("no-masks", None, 0, f"none of {len(without)} objects has a segmentation")
        return
    for position in without:
        file_name = content.image_of(content.annotations[position])["file_name"]
        message = f"{file_name}: no segmentation; the object is learnt by its box alone"
        yield content.finding("mask-missing", "annotations", position, message)


def _counts(content: Content, counts: Counter[tuple[int, int]], settings: Settings) -> Iterator[Finding]:
    per_image: defaultdict[int, int] = defaultdict(int)
    for (position, category), count in counts.items():
        per_image[position] += 1
        if count > settings.max_objects:
            name = content.categories[category]
            message = f"{count} objects of {name!r}; a phrase with more than {settings.max_objects} is not asked there"
            yield content.finding("too-many-objects", "images", position, message)
    empty = [str(entry["file_name"]) for position, entry in content.images.items() if not per_image[position]]
    for file_name in empty:
        path = str(content.split.img_folder / file_name)
        yield content.finding("image-without-objects", None, 0, "no object is annotated", file=path)
