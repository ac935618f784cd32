"""A small COCO folder of random coloured shapes, for every test that needs training data."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (210, 40, 40), "green": (40, 170, 60), "blue": (50, 70, 210), "yellow": (225, 205, 50)}
SHAPES = ("circle", "square", "triangle")
CLASSES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)


def write_coco_folder(
    path: Path,
    images: int = 8,
    classes: Sequence[str] = CLASSES[:3],
    *,
    val_images: int | None = None,
    size: tuple[int, int] = (96, 96),
    max_objects: int = 3,
    negatives: bool = True,
    seed: int = 0,
) -> Path:
    """Writes ``<path>/{train,val}/{images/*.png,annotations.json}`` and returns ``path``.

    Args:
        images: in ``train``.
        classes: category names, each ``"<colour> <shape>"`` of :data:`COLOURS` and :data:`SHAPES`; any other name
            gets a colour and a shape by its position.
        val_images: in ``val``; half of ``images``, at least 1, by default.
        size: (height, width) of every image.
        max_objects: per image, at least 1 unless the image is a negative.
        negatives: the last image of a split shows nothing (if it has more than one).
    """
    rng = random.Random(seed)
    counts = {"train": images, "val": max(1, images // 2) if val_images is None else val_images}
    for split, count in counts.items():
        empty = {count - 1} if negatives and count > 1 else set()
        objects = [0 if index in empty else rng.randint(1, max_objects) for index in range(count)]
        _write_split(Path(path) / split, classes, objects, size, rng)
    return Path(path)


def _write_split(folder: Path, classes: Sequence[str], objects: list[int], size: tuple[int, int], rng) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    height, width = size
    images, annotations = [], []
    for index, count in enumerate(objects):
        background = rng.randint(90, 160)
        noise = np.random.default_rng(rng.randrange(2**32)).integers(-20, 21, (height, width, 3))
        image = Image.fromarray((background + noise).clip(0, 255).astype(np.uint8))
        images.append({"id": index + 1, "file_name": f"{index:04d}.png", "height": height, "width": width})
        # Every class comes first in some image, so that a small split shows all of them.
        for place in range(count):
            category = index % len(classes) if place == 0 else rng.randrange(len(classes))
            polygon = _draw_shape(image, classes[category], category, rng)
            xs, ys = polygon[0::2], polygon[1::2]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": category + 1,
                    "bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)],
                    "area": (max(xs) - min(xs)) * (max(ys) - min(ys)),
                    "iscrowd": 0,
                    "segmentation": [polygon],
                }
            )
        image.save(folder / "images" / images[-1]["file_name"])
    categories = [{"id": position + 1, "name": name} for position, name in enumerate(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def _draw_shape(image: Image.Image, name: str, category: int, rng: random.Random) -> list[float]:
    """Draws one shape and returns its outline."""
    words = name.split()
    colour = next((COLOURS[word] for word in words if word in COLOURS), list(COLOURS.values())[category % len(COLOURS)])
    shape = next((word for word in words if word in SHAPES), SHAPES[category % len(SHAPES)])
    radius = rng.uniform(0.12, 0.2) * min(image.size)
    x, y = (rng.uniform(radius, side - radius) for side in image.size)
    corners, turn = {"circle": (24, 0.0), "square": (4, math.pi / 4), "triangle": (3, -math.pi / 2)}[shape]
    angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
    polygon = [round(value, 2) for a in angles for value in (x + radius * math.cos(a), y + radius * math.sin(a))]
    ImageDraw.Draw(image).polygon(polygon, fill=colour)
    return polygon
