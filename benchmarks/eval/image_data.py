"""Synthetic image data: ``python benchmarks/eval/image_data.py FOLDER`` writes ``dense/``, ``sparse/`` and ``coco/``.

``dense`` and ``sparse`` are SA-Co files (``gt_a.json`` ... one per annotator, ``pred.json``), ``coco`` has ``gt.json``
and ``pred.json``. Outlines are wavy ellipses; annotators differ a little, predictions more: shifted outlines, missed
objects, duplicates, false alarms, low scores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

POINTS = 48  # of an outline
CATEGORIES = 80  # of the COCO data

Record = dict[str, Any]
Ellipse = np.ndarray  # (6,): centre x, y, radius x, y in pixels, phase, waviness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dense", type=int, default=2000, help="pairs of about 8 objects at 1000 x 800")
    parser.add_argument("--sparse", type=int, default=20000, help="pairs, four of five of them negative")
    parser.add_argument("--coco", type=int, default=1000, help="images with 67 detections each")
    options = parser.parse_args()
    write_pairs(options.folder / "dense", options.dense, mean_objects=8, share_negative=0.05)
    write_pairs(options.folder / "sparse", options.sparse, mean_objects=2, share_negative=0.8)
    write_coco(options.folder / "coco", options.coco)


def write_pairs(
    folder: Path, pairs: int, *, mean_objects: float, share_negative: float, annotators: str = "abc", seed: int = 0
) -> None:
    """SA-Co files of pictures of 1000 x 800."""
    generator, size = np.random.default_rng(seed), (800, 1000)
    images: list[list[Record]] = [[] for _ in annotators]
    objects: list[list[Record]] = [[] for _ in annotators]
    predictions: list[Record] = []
    for pair_id in range(1, pairs + 1):
        negative = generator.random() < share_negative
        real = _ellipses(0 if negative else 1 + generator.poisson(mean_objects - 1), size, generator)
        for entries, things in zip(images, objects, strict=True):
            entries.append(_image(pair_id, size, exhaustive=generator.random() > 0.01))
            for ellipse in _jitter(real[generator.random(len(real)) > 0.05], 0.02, generator):
                things.append(
                    {"id": len(things) + 1, "iscrowd": 0, "source": "manual", **_shape(pair_id, ellipse, size)}
                )
        for ellipse in _found(real, size, generator, false_alarms=0.15 if negative else 0.7):
            predictions.append({**_shape(pair_id, ellipse, size), "score": round(float(generator.uniform(0.3, 1)), 5)})
    folder.mkdir(parents=True, exist_ok=True)
    for letter, entries, things in zip(annotators, images, objects, strict=True):
        head = {"info": {"description": f"synthetic, seed {seed}"}, "images": entries, "annotations": things}
        _write(folder / f"gt_{letter}.json", head | {"categories": [{"id": 1, "name": "object"}]})
    _write(folder / "pred.json", [predictions[row] for row in generator.permutation(len(predictions))])


def write_coco(folder: Path, images: int, *, detections: int = 67, seed: int = 0) -> None:
    """COCO files of pictures of 640 x 480 with boxes in pixels."""
    generator, size = np.random.default_rng(seed), (480, 640)
    truth: list[Record] = []
    found: list[Record] = []
    for image_id in range(1, images + 1):
        real = _ellipses(1 + generator.poisson(6), size, generator)
        categories = generator.integers(1, CATEGORIES + 1, len(real))
        for ellipse, category in zip(real, categories, strict=True):
            shape = _pixels(_shape(image_id, ellipse, size), size) | {"category_id": int(category)}
            crowd = int(generator.random() < 0.02)
            truth.append({"id": len(truth) + 1, "iscrowd": crowd, **shape})
        repeats = np.repeat(np.arange(len(real)), 4)[: detections // 2]
        near, far = _jitter(real[repeats], 0.1, generator), _ellipses(detections - len(repeats), size, generator)
        labels = np.concatenate([categories[repeats], generator.integers(1, CATEGORIES + 1, len(far))])
        for ellipse, category in zip(np.concatenate([near, far]), labels, strict=True):
            shape = _pixels(_shape(image_id, ellipse, size), size) | {"category_id": int(category)}
            found.append({**shape, "score": round(float(generator.random()), 5)})
    folder.mkdir(parents=True, exist_ok=True)
    entries = [{"id": i, "file_name": f"{i:06}.jpg", "height": size[0], "width": size[1]} for i in range(1, images + 1)]
    classes = [{"id": number, "name": f"class {number}"} for number in range(1, CATEGORIES + 1)]
    _write(folder / "gt.json", {"images": entries, "annotations": truth, "categories": classes})
    _write(folder / "pred.json", [found[row] for row in generator.permutation(len(found))])


def _ellipses(count: int, size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    height, width = size
    scale = height / 800
    columns = [
        generator.uniform(0.05 * width, 0.95 * width, count),
        generator.uniform(0.05 * height, 0.95 * height, count),
        generator.uniform(10 * scale, 110 * scale, count),
        generator.uniform(10 * scale, 110 * scale, count),
        generator.uniform(0, 6.28, count),
        generator.uniform(0, 0.15, count),
    ]
    return np.stack(columns, axis=1)


def _jitter(ellipses: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Moved and scaled by about a share of their size."""
    moved = ellipses.copy()
    moved[:, :2] += generator.normal(0, share, (len(moved), 2)) * moved[:, 2:4]
    moved[:, 2:4] *= np.exp(generator.normal(0, share, (len(moved), 2)))
    return moved


def _found(
    real: np.ndarray, size: tuple[int, int], generator: np.random.Generator, *, false_alarms: float
) -> Iterator[Ellipse]:
    yield from _jitter(real[generator.random(len(real)) > 0.15], 0.08, generator)
    yield from _jitter(real[generator.random(len(real)) < 0.05], 0.2, generator)  # duplicates
    yield from _ellipses(generator.poisson(false_alarms), size, generator)


def _shape(image_id: int, ellipse: Ellipse, size: tuple[int, int]) -> Record:
    height, width = size
    x, y, rx, ry, phase, waviness = ellipse
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    radius = 1 + waviness * np.sin(5 * angle + phase)
    outline = np.stack([x + rx * radius * np.cos(angle), y + ry * radius * np.sin(angle)], axis=1)
    (mask,) = coco_mask.frPyObjects([outline.ravel().tolist()], height, width)
    box = coco_mask.toBbox(mask) / [width, height, width, height]
    return {
        "image_id": image_id,
        "category_id": 1,
        "bbox": [round(float(value), 5) for value in box],
        "segmentation": {"size": [height, width], "counts": mask["counts"].decode()},
        "area": float(coco_mask.area(mask)) / (height * width),
    }


def _pixels(shape: Record, size: tuple[int, int]) -> Record:
    height, width = size
    box = [round(value * side, 2) for value, side in zip(shape["bbox"], (width, height) * 2, strict=True)]
    return shape | {"bbox": box, "area": shape["area"] * height * width}


def _image(pair_id: int, size: tuple[int, int], *, exhaustive: bool) -> Record:
    return {
        "id": pair_id,
        "file_name": f"pictures/{pair_id:08}.jpg",
        "text_input": f"phrase number {pair_id}",
        "height": size[0],
        "width": size[1],
        "queried_category": str(pair_id),
        "is_instance_exhaustive": int(exhaustive),
        "is_pixel_exhaustive": 1,
    }


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    main()
