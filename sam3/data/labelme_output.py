"""Converted images become a COCO folder: ``<out>/{train,val}/images/*`` and ``<out>/{train,val}/annotations.json``.

The folder is built beside its place and moved there at the end, so that it is there whole or not at
all. What stands there already is replaced on request only, and only if this command wrote it.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sam3.data.labelme_images import SourceImage, comparable_name
from sam3.data.labelme_shapes import Instance
from sam3.errors import DataError, listed
from sam3.io.files import write_json

SPLITS = ("train", "val")
_ANNOTATIONS, _IMAGES = "annotations.json", "images"


@dataclass(frozen=True)
class ConvertedImage:
    """One image and its objects."""

    key: str  # path of its annotation below the Labelme folder, "/" between folders, without suffix
    source: SourceImage
    instances: tuple[Instance, ...]


def check_free(output_dir: Path, *, overwrite: bool) -> None:
    """Refuse early what could not be written in the end, and to touch what must not be replaced.

    Raises:
        DataError: the place cannot be written, holds a dataset and ``overwrite`` is False, or holds files that this
            command did not write.
    """
    existing = next(path for path in [output_dir, *output_dir.absolute().parents] if path.exists())
    if not existing.is_dir():
        raise DataError(f"output_dir '{output_dir}' cannot be written: '{existing}' is a file; name a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise DataError(f"output_dir '{output_dir}' cannot be written: no permission for '{existing}'")
    for folder in (output_dir / split for split in SPLITS):
        if folder.exists() and not folder.is_dir():
            raise DataError(f"'{folder}' is a file where a folder is to be written; move it away")
        files = [path for path in folder.rglob("*") if not path.is_dir()]
        if files and not overwrite:
            raise DataError(f"'{folder}' is not empty; pass --overwrite to replace it, or name another --output_dir")
        foreign = sorted(set(files) - _files_of_dataset(folder))
        if foreign:
            names = listed([path.relative_to(output_dir) for path in foreign], limit=5)
            raise DataError(
                f"--overwrite replaces only what this command wrote, but '{output_dir}' also holds {names}; "
                "move them away, or name another --output_dir"
            )


def write_dataset(
    output_dir: Path, images: Sequence[ConvertedImage], *, in_train: Sequence[bool], class_names: Sequence[str]
) -> Iterator[None]:
    """Write the COCO folder, one step per image (a generator, so that the caller can show progress).

    Raises:
        DataError: the folder cannot be written.
    """
    names = unique_names(images)
    try:
        with _staging_folder(output_dir) as staging:
            for split in SPLITS:
                chosen = [index for index, side in enumerate(in_train) if side == (split == "train")]
                folder = staging / "new" / split
                (folder / _IMAGES).mkdir(parents=True)
                for index in chosen:
                    images[index].source.write(folder / _IMAGES / names[index])
                    yield
                document = to_coco([images[i] for i in chosen], [names[i] for i in chosen], class_names)
                write_json(folder / _ANNOTATIONS, document)
            _move_into_place(staging, output_dir)
    except OSError as error:
        raise DataError(f"cannot write to '{output_dir}': {error.strerror or error}") from error


def to_coco(images: Sequence[ConvertedImage], names: Sequence[str], class_names: Sequence[str]) -> dict[str, Any]:
    """The COCO document of one split; ids count from 1, categories in the order of ``class_names``."""
    category_ids = {name: number for number, name in enumerate(class_names, start=1)}
    image_entries, annotations = [], []
    for image_id, (image, name) in enumerate(zip(images, names, strict=True), start=1):
        source = image.source
        image_entries.append({"id": image_id, "file_name": name, "width": source.width, "height": source.height})
        for instance in image.instances:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_ids[instance.label],
                    "bbox": instance.box_xywh,
                    "area": instance.area,
                    "segmentation": instance.segmentation,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name, "supercategory": "object"} for name, number in category_ids.items()]
    return {"images": image_entries, "annotations": annotations, "categories": categories}


def unique_names(images: Sequence[ConvertedImage]) -> list[str]:
    """A file name for each image, unique over both splits even where upper and lower case are one.

    A name that occurs once stays; of equal ones each gets its sub-folders in front (``a/b/x.jpg`` becomes
    ``a_b_x.jpg``), and a number at the end if that is taken, too.
    """
    occurrences = Counter(comparable_name(image.source.name) for image in images)
    taken = {name for name, count in occurrences.items() if count == 1}
    names = []
    for image in images:
        name = image.source.name
        if occurrences[comparable_name(name)] > 1:
            name = _free_name("_".join([*PurePosixPath(image.key).parts[:-1], name]), taken)
            taken.add(comparable_name(name))
        names.append(name)
    return names


def _free_name(name: str, taken: set[str]) -> str:
    path, candidate, number = PurePosixPath(name), name, 1
    while comparable_name(candidate) in taken:
        number += 1
        candidate = f"{path.stem}_{number}{path.suffix}"
    return candidate


def _files_of_dataset(folder: Path) -> set[Path]:
    """The files that an annotation file in ``folder`` accounts for, itself included."""
    try:
        document = json.loads((folder / _ANNOTATIONS).read_text(encoding="utf-8"))
        names = [entry["file_name"] for entry in document["images"]]
        return {folder / _ANNOTATIONS, *(folder / _IMAGES / name for name in names)}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


@contextmanager
def _staging_folder(output_dir: Path) -> Iterator[Path]:
    output_dir.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".labelme_to_coco.", dir=output_dir))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move_into_place(staging: Path, output_dir: Path) -> None:
    """Exchange the old split folders for the new ones; if a step fails, those before it are undone."""
    (staging / "old").mkdir()
    with ExitStack() as undo:
        for split in SPLITS:
            new, old, place = staging / "new" / split, staging / "old" / split, output_dir / split
            if place.exists():
                place.rename(old)
                undo.callback(old.rename, place)
            new.rename(place)
            undo.callback(place.rename, new)
        undo.pop_all()
