"""Pictures for TensorBoard: what is there on the left, what the model found on the right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam3.io.images import open_image
from sam3.io.overlay import draw_overlay, label_colours
from sam3.ops import rle
from sam3.structures import FoundObject

LONGEST_SIDE = 512
GAP = 4  # pixels between the two halves

Record = Mapping[str, Any]


def choose_images(ground_truth: Mapping[str, Any], count: int) -> list[Record]:
    """``count`` images spread evenly over those that hold objects; the same ones every time."""
    used = {entry["image_id"] for entry in ground_truth["annotations"]}
    images = [image for image in ground_truth["images"] if image["id"] in used] or list(ground_truth["images"])
    count = min(count, len(images))
    return [images[index * len(images) // count] for index in range(count)]


def compare(
    image_entry: Record,
    img_folder: str | Path,
    ground_truth: Mapping[str, Any],
    predictions: Sequence[Record],
    score_threshold: float,
) -> np.ndarray:
    """One picture, (H, W, 3) uint8.

    Args:
        image_entry: COCO image.
        ground_truth: COCO annotations, of any images.
        predictions: COCO results, of any images; those that do not exceed ``score_threshold`` are not drawn.
    """
    image = open_image(Path(img_folder) / image_entry["file_name"])
    factor = min(1.0, LONGEST_SIDE / max(image.size))
    small = image.resize([max(1, round(side * factor)) for side in image.size], Image.Resampling.BILINEAR)
    names = {category["id"]: str(category["name"]) for category in ground_truth["categories"]}
    colours = label_colours(names.values())
    confident = [record for record in predictions if record["score"] > score_threshold]
    there, found = (
        [_drawable(one, names, image.size, small.size) for one in records if one["image_id"] == image_entry["id"]]
        for records in (ground_truth["annotations"], confident)
    )
    left = np.asarray(draw_overlay(small, there, colours, with_scores=False))
    right = np.asarray(draw_overlay(small, found, colours))
    gap = np.full((left.shape[0], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def _drawable(record: Record, names: Mapping[int, str], size: tuple[int, int], small: tuple[int, int]) -> FoundObject:
    """A COCO annotation or result of an image of ``size`` (width, height), for drawing it in ``small``."""
    box, segmentation = record.get("bbox"), None
    if record.get("segmentation"):
        encoded = rle.from_any(record["segmentation"], size[1], size[0])
        box = box or rle.to_box_xywh(encoded)
        mask = Image.fromarray(rle.decode(encoded)).resize(small, Image.Resampling.NEAREST)
        segmentation = rle.encode(np.asarray(mask))
    x, y, width, height = box
    scale_x, scale_y = small[0] / size[0], small[1] / size[1]
    return FoundObject(
        label=names[record["category_id"]],
        score=record.get("score", 1.0),
        box=(x * scale_x, y * scale_y, (x + width) * scale_x, (y + height) * scale_y),
        segmentation=segmentation,
    )
