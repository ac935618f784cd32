"""Pictures for TensorBoard: what is there on the left, what the model found on the right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sam3.io.images import open_image
from sam3.ops import rle

LONGEST_SIDE = 512
OPACITY = 0.45
GAP = 4  # pixels between the two halves
COLOURS = ((230, 57, 70), (42, 157, 244), (255, 190, 11), (58, 170, 53), (157, 78, 221), (0, 180, 170))

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
    annotations: Sequence[Record],
    predictions: Sequence[Record],
    score_threshold: float,
) -> np.ndarray:
    """One picture, (H, W, 3) uint8.

    Args:
        image_entry: COCO image.
        annotations: COCO annotations, of any images.
        predictions: COCO results, of any images; those that do not exceed ``score_threshold`` are not drawn.
    """
    image = open_image(Path(img_folder) / image_entry["file_name"])
    there = [entry for entry in annotations if entry["image_id"] == image_entry["id"]]
    found = [entry for entry in predictions if entry["image_id"] == image_entry["id"]]
    found = sorted((entry for entry in found if entry["score"] > score_threshold), key=lambda entry: entry["score"])
    left, right = _drawn(image, there), _drawn(image, found)
    gap = np.full((left.shape[0], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def _drawn(image: Image.Image, records: Sequence[Record]) -> np.ndarray:
    """The picture at a viewable size with masks tinted, boxes and scores drawn."""
    factor = min(1.0, LONGEST_SIDE / max(image.size))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    canvas = image.resize(size, Image.Resampling.BILINEAR)
    for record in records:
        colour = COLOURS[record["category_id"] % len(COLOURS)]
        box = record.get("bbox")
        if record.get("segmentation"):
            encoded = rle.from_any(record["segmentation"], image.height, image.width)
            stencil = Image.fromarray(rle.decode(encoded).astype(np.uint8) * round(255 * OPACITY)).resize(size)
            canvas.paste(colour, (0, 0), stencil)
            box = box or rle.to_box_xywh(encoded)
        _draw_box(canvas, [value * factor for value in box], colour, record.get("score"))
    return np.asarray(canvas)


def _draw_box(canvas: Image.Image, box: Sequence[float], colour: tuple[int, int, int], score: float | None) -> None:
    x, y, width, height = box
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((x, y, x + max(width, 1), y + max(height, 1)), outline=colour)
    if score is not None:
        draw.text((x + 2, y + 1), f"{score:.2f}", fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
