"""Where the halves of a data set lie."""

from dataclasses import dataclass
from pathlib import Path

from sam3.errors import DataError

_SPLITS = ("train", "val", "valid", "test")
_ANNOTATIONS = ("annotations.json", "_annotations.coco.json")


@dataclass(frozen=True)
class Split:
    """One annotation file and the folder its pictures lie in."""

    name: str
    ann_file: Path
    img_folder: Path


def find_splits(data: Path, img_folder: Path | None = None) -> list[Split]:
    """The splits of ``data``: a folder as the converter writes it or as Roboflow exports it, or one annotation file.

    A folder ``data/train`` without an annotation file still counts: what it lacks is for the doctor to say.

    Args:
        img_folder: of a single annotation file; left out, ``images`` beside it, else its own folder.

    Raises:
        DataError: there is nothing of the kind.
    """
    if data.is_file():
        return [_single(data, img_folder)]
    if not data.is_dir():
        raise DataError(f"there is neither a folder nor a file {data}")
    splits = [_split_of(data / name) for name in _SPLITS if (data / name).is_dir()]
    if splits:
        return splits
    for name in _ANNOTATIONS:
        if (data / name).is_file():
            return [_single(data / name, img_folder)]
    there = ", ".join(sorted(entry.name for entry in data.iterdir())[:10]) or "nothing"
    raise DataError(
        f"{data} is no COCO data set: expected train/ and val/, each with images/ and annotations.json (or Roboflow's "
        f"train/_annotations.coco.json), or one annotation file; found {there}"
    )


def _split_of(folder: Path) -> Split:
    found = [folder / name for name in _ANNOTATIONS if (folder / name).is_file()]
    images = folder / "images"
    return Split(folder.name, found[0] if found else folder / _ANNOTATIONS[0], images if images.is_dir() else folder)


def _single(ann_file: Path, img_folder: Path | None) -> Split:
    beside = ann_file.parent / "images"
    return Split("data", ann_file, img_folder or (beside if beside.is_dir() else ann_file.parent))
