"""Single frames of clips as a COCO folder, so that the detector also learns shapes that others cover in part."""

import json
import shutil
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
            _add_frame(content[split], name, video, masklets, frame, names, min_area)
    for split, document in content.items():
        write_json(folder / split / "annotations.json", document)
    return {split: len(document["images"]) for split, document in content.items()}


def _add_frame(
    document: dict[str, Any],
    file_name: str,
    video: dict[str, Any],
    masklets: list[dict[str, Any]],
    frame: int,
    names: list[str],
    min_area: int,
) -> None:
    image_id = len(document["images"]) + 1
    size = {"height": video["height"], "width": video["width"]}
    document["images"].append({"id": image_id, "file_name": file_name, **size})
    for masklet in masklets:
        if (masklet["areas"][frame] or 0) < min_area:
            continue
        for phrase in (masklet["noun_phrase"], masklet["full_phrase"]):
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": names.index(phrase) + 1,
                    "segmentation": masklet["segmentations"][frame],
                    "bbox": masklet["bboxes"][frame],
                    "area": masklet["areas"][frame],
                    "iscrowd": 0,
                }
            )
