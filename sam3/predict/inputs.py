"""Which images a run is about, and what their output files are called."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sam3.errors import DataError
from sam3.io.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class ImageFile:
    """An image and the name its results would like to have."""

    path: Path  # absolute
    file_name: str  # relative to the folder that was given, "/" between folders

    @property
    def name(self) -> str:
        """The file name without its suffix."""
        return str(PurePosixPath(self.file_name).with_suffix(""))


def list_images(
    inputs: Sequence[str | Path], *, recursive: bool = False, exclude: Path | None = None
) -> list[ImageFile]:
    """Images of folders, image files and ``.txt`` lists of paths, each image once, folders in sorted order.

    Args:
        inputs: folders, files or lists. A list holds one path a line, relative to the list's own folder or to the
            working folder; empty lines and lines that start with ``#`` are skipped.
        recursive: look into sub-folders too.
        exclude: a folder never looked into (the run's own output).

    Raises:
        DataError: an input does not exist or holds no image.
    """
    found: dict[Path, ImageFile] = {}
    for given in inputs:
        for image in _images_of(Path(given), recursive, exclude):
            found.setdefault(image.path, image)
    return list(found.values())


def unique_names(images: Iterable[ImageFile], taken: dict[Path, str]) -> dict[Path, str]:
    """A name for every image; equal names get ``_2``, ``_3``, ... in the order of ``images``.

    Args:
        images: in the order of the run.
        taken: names given in earlier runs, image path -> name. They stay.
    """
    used = {name.casefold() for name in taken.values()}
    names = {}
    for image in images:
        if image.path in taken:
            names[image.path] = taken[image.path]
            continue
        name, count = image.name, 1
        while name.casefold() in used:
            count += 1
            name = f"{image.name}_{count}"
        used.add(name.casefold())
        names[image.path] = name
    return names


def path_from(folder: Path, path: Path) -> str:
    """``path`` as seen from ``folder``, with forward slashes; absolute where there is no way (another drive)."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def _images_of(given: Path, recursive: bool, exclude: Path | None) -> list[ImageFile]:
    if given.is_dir():
        return _images_below(given, recursive, exclude)
    if not given.is_file():
        raise DataError(f"--input {given}: there is no such folder or file")
    if given.suffix.lower() == ".txt":
        return _images_listed(given)
    return [_image(given)]


def _images_below(folder: Path, recursive: bool, exclude: Path | None) -> list[ImageFile]:
    images, overlooked = [], 0
    for place, files in _walk(folder, exclude):
        paths = [place / name for name in sorted(files) if _is_image_name(name)]
        if recursive or place == folder:
            images += [_image(path, folder) for path in paths]
        else:
            overlooked += len(paths)
        if not recursive and images:
            break
    if not images:
        hint = f"; its sub-folders hold {overlooked}: add --recursive" if overlooked else ""
        raise DataError(f"--input {folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in this folder{hint}")
    return images


def _walk(folder: Path, exclude: Path | None) -> Iterator[tuple[Path, list[str]]]:
    """Each folder with its files, sorted; links are followed, but no folder is entered twice."""
    entered = {folder.resolve()} | ({exclude.resolve()} if exclude else set())
    for place, subfolders, files in os.walk(folder, followlinks=True):
        yield Path(place), files
        targets = {name: (Path(place) / name).resolve() for name in sorted(subfolders) if not name.startswith(".")}
        subfolders[:] = [name for name, target in targets.items() if target not in entered]
        entered.update(targets.values())


def _images_listed(listing: Path) -> list[ImageFile]:
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"--input {listing}: a list of images must be UTF-8 text ({error})") from error
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise DataError(f"--input {listing}: the list names no image")
    images = []
    for entry in entries:
        beside = listing.parent / entry
        images.append(_image(beside if beside.exists() else Path(entry), listing.parent))
    return images


def _image(path: Path, folder: Path | None = None) -> ImageFile:
    """Named relative to ``folder`` if the image lies below it, else by its bare file name."""
    path = Path(os.path.abspath(path))
    below = Path(path.name)
    if folder is not None and path.is_relative_to(os.path.abspath(folder)):
        below = path.relative_to(os.path.abspath(folder))
    return ImageFile(path, below.as_posix())


def _is_image_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
