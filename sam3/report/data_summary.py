"""What a COCO annotation file holds, in numbers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from sam3.io.files import read_json

# Upper ends of the classes of size: side of a square as large as the object's box, as a share of the image's.
SIZE_BINS = {"below 5 %": 0.05, "5 to 10 %": 0.1, "10 to 20 %": 0.2, "20 to 40 %": 0.4, "above 40 %": float("inf")}


@dataclass(frozen=True)
class DataSummary:
    """One annotation file."""

    images: int
    objects: int
    empty_images: int  # without an object
    crowds: int
    per_class: Mapping[str, int]  # name -> objects
    per_image: Mapping[str, int]  # number of objects, "10+" at most -> images
    sizes: Mapping[str, int]  # SIZE_BINS -> objects
    widths: tuple[int, float, int]  # least, median, most; pixels
    heights: tuple[int, float, int]


def summarize(annotation_file: str | Path) -> DataSummary:
    """Numbers of a COCO file, remembered as long as the file does not change.

    Raises:
        DataError: the file is missing or no JSON.
    """
    path = Path(annotation_file)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _summarize(path, stamp)


@lru_cache(maxsize=8)
def _summarize(path: Path, stamp: int) -> DataSummary:
    content = read_json(path)
    images = {image["id"]: image for image in content["images"]}
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    objects = [entry for entry in content["annotations"] if entry["image_id"] in images]
    counts = Counter(entry["image_id"] for entry in objects)
    per_image = Counter(min(counts[image_id], 10) for image_id in images)
    found = Counter(names.get(entry["category_id"], "?") for entry in objects)
    sizes = Counter(_size_bin(entry, images[entry["image_id"]]) for entry in objects if entry.get("bbox"))
    return DataSummary(
        images=len(images),
        objects=len(objects),
        empty_images=sum(image_id not in counts for image_id in images),
        crowds=sum(bool(entry.get("iscrowd")) for entry in objects),
        per_class={name: found[name] for name in names.values()},
        per_image={
            "10+" if number == 10 else str(number): per_image[number] for number in range(max(per_image, default=0) + 1)
        },
        sizes={name: sizes[name] for name in SIZE_BINS},
        widths=_range([image["width"] for image in images.values()]),
        heights=_range([image["height"] for image in images.values()]),
    )


def _size_bin(entry: Mapping[str, Any], image: Mapping[str, Any]) -> str:
    width, height = entry["bbox"][2:]
    share = (max(0.0, width * height) / max(1, image["width"] * image["height"])) ** 0.5
    return next(name for name, end in SIZE_BINS.items() if share < end or end == float("inf"))


def _range(values: list[int]) -> tuple[int, float, int]:
    return (min(values), median(values), max(values)) if values else (0, 0, 0)
