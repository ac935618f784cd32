"""Single frames of clips as a COCO folder, so that the detector also learns shapes that others cover in part."""

import shutil
from pathlib import Path
from typing import Any

from sam3.data.saco_video import TruthMasklet, Video, read_ground_truth
from sam3.io.files import write_json

MIN_AREA = 30  # pixels of an object that is annotated; less is a sliver that nobody could name


def write_frame_dataset(
    ground_truth: str | Path, folder: str | Path, *, every: int = 4, val_every: int = 10, min_area: int = MIN_AREA
) -> dict[str, int]:
    """Write every ``every``-th frame into ``folder/train`` or ``folder/val``, each images/ + annotations.json.

    Args:
        ground_truth: file beside whose clip folders lie.
        val_every: every so many-th clip goes to val.

    Returns:
        Number of pictures of each split.
    """
    truth, source, folder = read_ground_truth(ground_truth), Path(ground_truth).parent, Path(folder)
    categories = [{"id": number, "name": name} for number, name in truth.categories.items()]
    content = {split: {"images": [], "annotations": [], "categories": categories} for split in ("train", "val")}
    for number, video in enumerate(truth.videos.values()):
        split = "val" if number % val_every == val_every - 1 else "train"
        (folder / split / "images").mkdir(parents=True, exist_ok=True)
        for frame in range(number % every, len(video), every):
            name = video.file_names[frame].replace("/", "_")
            shutil.copyfile(source / video.file_names[frame], folder / split / "images" / name)
            _add_frame(content[split], name, video, truth.of_video(video.id), frame, min_area)
    for split, document in content.items():
        write_json(folder / split / "annotations.json", document)
    return {split: len(document["images"]) for split, document in content.items()}


def _add_frame(
    document: dict[str, Any], name: str, video: Video, tracks: list[TruthMasklet], frame: int, min_area: int
) -> None:
    image_id = len(document["images"]) + 1
    document["images"].append({"id": image_id, "file_name": name, "height": video.height, "width": video.width})
    for track in tracks:
        area = int(track.masks.areas[frame])
        if area < min_area:
            continue
        run = {"size": [video.height, video.width], "counts": track.masks.counts()[frame].decode("ascii")}
        document["annotations"].append(
            {
                "id": len(document["annotations"]) + 1,
                "image_id": image_id,
                "category_id": track.category_id,
                "segmentation": run,
                "bbox": track.boxes[frame].tolist(),
                "area": area,
                "iscrowd": 0,
            }
        )
