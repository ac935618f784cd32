"""Synthetic VEval data: ``python benchmarks/eval/video_data.py FOLDER`` writes ``gt.json`` and ``pred.json``.

Wavy ellipses drift through videos of 1280 x 720; predictions follow them with errors of every kind: shifted outlines,
missed tracks, identities that break in the middle, repeated tracks, false tracks, low scores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 720, 1280
POINTS = 72  # of an outline
PHRASES = 3  # with objects, of each video; two more have none
EMPTY = coco_mask.encode(np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F"))["counts"].decode()

Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=50)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--objects", type=int, default=6)
    parser.add_argument("--categories", type=int, default=2000, help="entries of the phrase table")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write(**vars(options))


def write(folder: Path, *, videos: int, frames: int, objects: int, categories: int, seed: int = 0) -> None:
    """Write both files; masklets go to disk one by one."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    clips = [_clip(index, frames, categories, generator) for index in range(videos)]
    head = {
        "info": {"version": "v1", "description": f"synthetic, seed {seed}"},
        "videos": [clip["video"] for clip in clips],
        "categories": [{"id": index, "name": f"phrase {index}"} for index in range(1, categories + 1)],
        "video_np_pairs": [pair for clip in clips for pair in clip["pairs"]],
    }
    with open(folder / "gt.json", "w") as truth, open(folder / "pred.json", "w") as predictions:
        truth.write(json.dumps(head)[:-1] + ', "annotations": [')
        predictions.write("[")
        first = [True, True]
        for clip in clips:
            for side, record in _masklets(clip, frames, objects, generator):
                stream = (truth, predictions)[side]
                stream.write(("" if first[side] else ", ") + json.dumps(record))
                first[side] = False
        truth.write("]}")
        predictions.write("]")


def _clip(index: int, frames: int, categories: int, generator: np.random.Generator) -> dict[str, Any]:
    chosen = generator.choice(categories, size=PHRASES + 2, replace=False) + 1
    video = {
        "id": index,
        "video_name": f"v{index:05d}",
        "file_names": [f"v{index:05d}/{frame:05d}.jpg" for frame in range(frames)],
        "height": HEIGHT,
        "width": WIDTH,
        "length": frames,
    }
    pairs = [
        {
            "id": index * (PHRASES + 2) + number,
            "video_id": index,
            "category_id": int(category),
            "noun_phrase": f"phrase {category}",
            "num_masklets": int(number < PHRASES),
        }
        for number, category in enumerate(chosen)
    ]
    return {"video": video, "pairs": pairs, "categories": chosen.tolist()}


def _masklets(
    clip: dict[str, Any], frames: int, objects: int, generator: np.random.Generator
) -> Iterator[tuple[int, Record]]:
    """(0, annotation) and (1, prediction) of one video."""
    video_id = clip["video"]["id"]
    for number in range(objects):
        category = clip["categories"][number % PHRASES]
        outlines, shown = _track(frames, generator)
        ids = {"video_id": video_id, "category_id": category}
        extra = {"id": video_id * objects + number + 1, "iscrowd": 0, "noun_phrase": f"phrase {category}"}
        yield 0, {**extra, **ids, "height": HEIGHT, "width": WIDTH, **_fields(outlines, shown, absent=None)}
        for score, part in _followers(shown, generator):
            moved = outlines + generator.normal(0, 2, (frames, 1, 2)) + generator.normal(0, 1, outlines.shape)
            yield 1, {**ids, "score": score, **_fields(moved, part, absent=0)}
    false_track, shown = _track(frames, generator)
    category = clip["categories"][int(generator.integers(PHRASES + 2))]
    ids = {"video_id": video_id, "category_id": category, "score": float(generator.uniform(0.3, 0.9))}
    yield 1, {**ids, **_fields(false_track, shown, absent=0)}


def _followers(shown: np.ndarray, generator: np.random.Generator) -> Iterator[tuple[float, np.ndarray]]:
    """Score and frames of the predictions that follow one object: none, one, two halves, or one and its repetition."""
    kind = generator.random()
    halves = np.arange(len(shown)) < len(shown) // 2
    if kind < 0.08:
        return
    parts = [shown & halves, shown & ~halves] if kind < 0.2 else [shown] * (2 if kind < 0.26 else 1)
    for part in parts:
        yield round(float(generator.uniform(0.35, 1.0)), 5), part


def _track(frames: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Outlines (frames, POINTS, 2) in pixels and where the object is shown (frames,)."""
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    waves = sum(generator.normal(0, 0.06) * np.cos(k * angles + generator.uniform(0, 6)) for k in range(2, 9))
    radii = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (1 + waves)[:, None] * generator.uniform(45, 130, 2)
    start, speed = generator.uniform((150, 150), (WIDTH - 150, HEIGHT - 150)), generator.normal(0, 2.5, 2)
    centres = start + speed * np.arange(frames)[:, None]
    shown = np.ones(frames, dtype=bool)
    if generator.random() < 0.4:
        first = int(generator.integers(frames))
        shown[first : first + frames // 5] = False
    return centres[:, None] + radii, shown


def _fields(outlines: np.ndarray, shown: np.ndarray, absent: int | None) -> Record:
    """Masks, boxes and areas; a frame without the object has nulls, or zeros and an empty mask."""
    polygons = [[outline.ravel().tolist()] for outline in outlines]
    masks = [coco_mask.merge(coco_mask.frPyObjects(polygon, HEIGHT, WIDTH)) for polygon in polygons]
    areas, boxes = coco_mask.area(masks).tolist(), coco_mask.toBbox(masks).tolist()
    size = [HEIGHT, WIDTH]
    nothing = None if absent is None else {"size": size, "counts": EMPTY}
    present = [bool(seen) and area > 0 for seen, area in zip(shown, areas, strict=True)]
    rows = list(zip(masks, boxes, areas, present, strict=True))
    return {
        "segmentations": [
            {"size": size, "counts": m["counts"].decode()} if here else nothing for m, _, _, here in rows
        ],
        "bboxes": [box if here else None if absent is None else [0, 0, 0, 0] for _, box, _, here in rows],
        "areas": [area if here else absent for _, _, area, here in rows],
    }


if __name__ == "__main__":
    sys.exit(main())
