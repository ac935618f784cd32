"""A made-up SA-Co split of coloured shapes: phrases that are there and that are not, annotators who disagree."""

import json
from pathlib import Path
from typing import Any

from tests.data.coco_folder import CLASSES, write_coco_folder


def write_saco_folder(
    path: Path, pictures: int = 6, phrases: int = 3, annotators: int = 3, seed: int = 0
) -> list[Path]:
    """Writes ``<path>/images/*.png`` and one annotation file per annotator; returns those files.

    Every picture is asked for every phrase. Each annotator but the first leaves out the last object of one pair.
    """
    coco_folder = write_coco_folder(path / "coco", images=pictures, classes=CLASSES[:phrases], val_images=1, seed=seed)
    coco = json.loads((coco_folder / "train" / "annotations.json").read_text())
    (coco_folder / "train" / "images").rename(path / "images")
    return write_saco_files(path, coco, annotators=annotators)


def write_saco_files(path: Path, coco: dict[str, Any], *, annotators: int = 3) -> list[Path]:
    """The annotation files of a COCO document: every picture is asked for every category's name."""
    names = {category["id"]: category["name"] for category in coco["categories"]}
    pairs, pair_of = [], {}
    for image in coco["images"]:
        for category_id, name in names.items():
            pair_of[image["id"], category_id] = len(pairs) + 101
            pairs.append(
                {
                    "id": len(pairs) + 101,
                    "file_name": image["file_name"],
                    "text_input": name,
                    "height": image["height"],
                    "width": image["width"],
                    "queried_category": str(category_id),
                    "is_instance_exhaustive": 1,
                    "is_pixel_exhaustive": 1,
                }
            )
    sizes = {image["id"]: (image["width"], image["height"]) for image in coco["images"]}
    entries = [_annotation(entry, pair_of, sizes) for entry in coco["annotations"]]
    files = []
    for index in range(annotators):
        kept = [entry for number, entry in enumerate(entries) if not index or number != index]
        files.append(path / f"gold_attributes_merged_{'abc'[index]}_release_test.json")
        content = {"images": pairs, "annotations": kept, "categories": [{"id": 1, "name": "object"}]}
        files[-1].write_text(json.dumps(content))
    return files


def _annotation(entry: dict[str, Any], pair_of: dict, sizes: dict) -> dict[str, Any]:
    width, height = sizes[entry["image_id"]]
    x, y, w, h = entry["bbox"]
    return {
        "id": entry["id"],
        "image_id": pair_of[entry["image_id"], entry["category_id"]],
        "category_id": 1,
        "bbox": [x / width, y / height, w / width, h / height],
        "area": w * h / (width * height),
        "segmentation": entry["segmentation"],
        "iscrowd": 0,
    }
