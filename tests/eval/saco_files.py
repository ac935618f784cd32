"""Small SA-Co files for tests: pairs, annotators, predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sam3.ops import rle

HEIGHT, WIDTH = 40, 50


def mask(x: int, y: int, w: int, h: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> rle.Rle:
    array = np.zeros(size, dtype=bool)
    array[y : y + h, x : x + w] = True
    return rle.encode(array)


def image(pair_id: int, *, exhaustive: int = 1, **extra: Any) -> dict[str, Any]:
    return {
        "id": pair_id,
        "file_name": f"bild_ü_{pair_id}.jpg",
        "text_input": "a phrase",
        "height": HEIGHT,
        "width": WIDTH,
        "queried_category": "7",
        "is_instance_exhaustive": exhaustive,
        "is_pixel_exhaustive": 1,
        **extra,
    }


def thing(pair_id: int, box: tuple[int, int, int, int], **extra: Any) -> dict[str, Any]:
    """An annotation; ``box`` xywh in pixels is what its mask covers."""
    x, y, w, h = box
    return {
        "id": extra.pop("id", 1),
        "image_id": pair_id,
        "category_id": 1,
        "bbox": [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT],
        "area": w * h / (WIDTH * HEIGHT),
        "segmentation": mask(*box),
        "iscrowd": 0,
        **extra,
    }


def found(pair_id: int, box: tuple[int, int, int, int], score: Any = 0.9, **extra: Any) -> dict[str, Any]:
    """A prediction."""
    record = {key: value for key, value in thing(pair_id, box).items() if key not in ("id", "iscrowd")}
    return record | {"score": score, **extra}


def truth(images: list[Any], annotations: list[Any], categories: tuple[int, ...] = (1,)) -> dict[str, Any]:
    return {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": "object"} for number in categories],
    }


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path
