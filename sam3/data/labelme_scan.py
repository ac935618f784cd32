"""Which files a Labelme folder holds, and which of them belong together."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sam3.errors import DataError
from sam3.io.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class FoundFiles:
    """The files below a Labelme folder, sub-folders included, sorted."""

    annotations: tuple[Path, ...]  # *.json
    images: tuple[Path, ...]


def scan_folder(folder: Path) -> FoundFiles:
    """All JSON and image files below ``folder``; names that begin with a dot (checkpoints, thumbnails) are passed over.

    Raises:
        DataError: there is no JSON file.
    """
    annotations, images = [], []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            suffix = path.suffix.lower()
            if suffix == ".json":
                annotations.append(path)
            elif suffix in IMAGE_SUFFIXES:
                images.append(path)
    if not annotations:
        raise DataError(
            f"labelme_dir '{folder}' holds no .json file ({len(images)} images); expected images with one Labelme JSON "
            "file each"
        )
    return FoundFiles(*(tuple(sorted(paths, key=lambda path: key_of(path, folder))) for paths in (annotations, images)))


def key_of(path: Path, folder: Path) -> str:
    """Path of a file below ``folder`` without suffix, "/" between sub-folders on every system."""
    return path.relative_to(folder).with_suffix("").as_posix()


def check_folders(labelme_dir: Path, output_dir: Path) -> None:
    """Refuse an input that is no folder, and input and output inside each other.

    Raises:
        DataError: with what to change.
    """
    if not labelme_dir.is_dir():
        what = "is a file" if labelme_dir.exists() else "does not exist"
        raise DataError(f"labelme_dir '{labelme_dir}' {what}; name the folder with your images and their JSON files")
    source, target = labelme_dir.resolve(), output_dir.resolve()
    if target.is_relative_to(source):
        raise DataError(
            f"output_dir '{output_dir}' lies inside labelme_dir '{labelme_dir}', so the next conversion would read its "
            "own output; name a folder beside it"
        )
    if source.is_relative_to(target / "train") or source.is_relative_to(target / "val"):
        raise DataError(f"labelme_dir '{labelme_dir}' lies where the output is to be written; name another output_dir")


def grouping(group_by: str | None) -> Callable[[str], str | None]:
    """The function that gives the group of an image from its key; None where the image is by itself.

    Args:
        group_by: None: no groups. ``folder``: images of one folder belong together. ``video``: those of one folder
            whose names differ only in the number at their end. Anything else is a regular expression
            searched for in the key; its groups, or else its whole match, name the group.

    Raises:
        DataError: the regular expression is not valid.
    """
    if group_by is None:
        return lambda key: None
    if group_by == "folder":
        return lambda key: PurePosixPath(key).parent.as_posix()
    if group_by == "video":
        group_by = r"^(.*?)[-_. ]*\d+$"
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise DataError(
            f"group_by {group_by!r} is neither 'folder' nor 'video' nor a valid regular expression: {error}"
        ) from None
    return lambda key: _matched(pattern, key)


def _matched(pattern: re.Pattern[str], key: str) -> str | None:
    match = pattern.search(key)
    if match is None:
        return None
    return "\0".join(part or "" for part in match.groups()) if pattern.groups else match.group()
