"""The pictures that an SA-Co/Silver annotation file speaks of, and writing one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sam3.errors import DataError
from sam3.io.files import atomic_path, read_json

JPEG_QUALITY = 95


@dataclass(frozen=True)
class Picture:
    """One file; several phrases may be asked of it."""

    file_name: str
    size: tuple[int, int]  # (height, width), pixels


def read_annotation_file(path: str | Path) -> dict[str, Any]:
    """The content of an SA-Co image file.

    Raises:
        DataError: not JSON, or without a list ``images``.
    """
    content = read_json(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("images"), list):
        raise DataError(f"{path}: expected an SA-Co annotation file, an object with the list 'images'")
    return content


def pictures_of(path: str | Path) -> dict[str, Picture]:
    """File name -> picture, in order of first appearance.

    Raises:
        DataError: an entry without file name or size, or one that leads out of the image folder.
    """
    pictures: dict[str, Picture] = {}
    for position, entry in enumerate(read_annotation_file(path)["images"]):
        missing = [key for key in ("file_name", "height", "width") if key not in entry]
        if missing:
            raise DataError(f"{path}: images[{position}] lacks {', '.join(missing)}")
        name = require_relative(entry["file_name"], f"{path}: images[{position}].file_name")
        pictures.setdefault(name, Picture(name, (int(entry["height"]), int(entry["width"]))))
    return pictures


def require_relative(name: str, where: str) -> str:
    """``name`` itself; refused if it would lead out of the folder it belongs into."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{where} is {name!r}; expected a path inside the image folder")
    return name


def save_picture(image: Image.Image, path: Path, size: tuple[int, int]) -> None:
    """Write ``image`` at (height, width) ``size``; resized (Lanczos) only if it differs. Whole or not at all."""
    wanted = (size[1], size[0])
    if image.size != wanted:
        image = image.resize(wanted, Image.Resampling.LANCZOS)
    options = {"quality": JPEG_QUALITY} if path.suffix.lower() in (".jpg", ".jpeg") else {}
    with atomic_path(path) as temporary:
        image.convert("RGB").save(temporary, **options)
