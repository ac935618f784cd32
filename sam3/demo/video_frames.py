"""Single frames of clips as a COCO folder, so that the detector also learns shapes that others cover in part."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sam3.io.files import write_json

MIN_AREA = 30  # pixels of an object that is annotated; less is a sliver that nobody could name


def write_frame_dataset(
    ground_truth: str | Path, folder: str | Path, *, every: int = 4, val_every: int = 10, min_area: int = MIN_AREA
) -> dict[str, int]:
    """Write every ``every``-th frame into ``folder/train`` or ``folder/val``, each images/ + annotations.json.

    Objects are named twice, "circle" and "red circle": a detector that learns the first alone forgets colours.

    Args:
        ground_truth: file of :func:`~sam3.demo.video_world.write_video_world`, beside whose clip folders lie.
        val_every: every so many-th clip goes to val.

    Returns:
        Number of pictures of each split.
    """
    source, folder = Path(ground_truth).parent, Path(folder)
    truth = json.loads(Path(ground_truth).read_text(encoding="utf-8"))
    names = [entry["name"] for entry in truth["categories"]]
    names += sorted({masklet["full_phrase"] for masklet in truth["annotations"]} - set(names))
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    content = {split: {"images": [], "annotations": [], "categories": categories} for split in ("train", "val")}
    for number, video in enumerate(truth["videos"]):
        split = "val" if number % val_every == val_every - 1 else "train"
        masklets = [masklet for masklet in truth["annotations"] if masklet["video_id"] == video["id"]]
        (folder / split / "images").mkdir(parents=True, exist_ok=True)
        for frame in range(number % every, video["length"], every):
            name = video["file_names"][frame].replace("/", "_")
            shutil.copyfile(source / video["file_names"][frame], folder / split / "images" / name)
            images, annotations = content[split]["images"], content[split]["annotations"]
            size = {"height": video["height"], "width": video["width"]}
            images.append({"id": len(images) + 1, "file_name": name, **size})
            for phrase, found in _objects(masklets, frame, min_area):
                ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": names.index(phrase) + 1}
                annotations.append(ids | found)
    for split, document in content.items():
        write_json(folder / split / "annotations.json", document)
    return {split: len(document["images"]) for split, document in content.items()}


def _objects(masklets: list[dict[str, Any]], frame: int, min_area: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Phrase and annotation of what shows on a frame."""
    for masklet in masklets:
        area = masklet["areas"][frame] or 0
        if area >= min_area:
            shape = {"segmentation": masklet["segmentations"][frame], "bbox": masklet["bboxes"][frame], "area": area}
            for phrase in (masklet["noun_phrase"], masklet["full_phrase"]):
                yield phrase, shape | {"iscrowd": 0}
