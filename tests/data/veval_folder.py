"""A made-up SA-Co/VEval split: squares that move; of four phrases asked of every video two are there."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from sam3.ops import rle

COLOURS = {
    "red square": (220, 40, 40),
    "blue square": (40, 60, 220),
    "green bar": (40, 200, 60),
    "pink bar": (240, 120, 200),
}
SIDE = 56


def write_veval_folder(path: Path, *, videos: int = 6, frames: int = 5, seed: int = 0, name: str = "sav_val") -> Path:
    """Writes ``<path>/saco_veval_<name>.json`` and ``<path>/media/saco_sav/JPEGImages_24fps/<video>/*.jpg``."""
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    document: dict = {
        "info": {},
        "videos": [],
        "annotations": [],
        "categories": [{"id": 10 + number, "name": phrase} for number, phrase in enumerate(names)],
        "video_np_pairs": [],
    }
    for index in range(videos):
        shown = [names[index % 4], names[(index + 1) % 4]]
        boxes = [_path(frames, rng) for _ in shown]
        files = [f"v {index}/{3 * frame:05d}.jpg" for frame in range(frames)]
        for frame, file in enumerate(files):
            picture = np.full((SIDE, SIDE, 3), 90 + 10 * index, dtype=np.uint8)
            for phrase, track in zip(shown, boxes, strict=True):
                x, y, w, h = track[frame]
                picture[y : y + h, x : x + w] = COLOURS[phrase]
            target = path / "media" / "saco_sav" / "JPEGImages_24fps" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(target, quality=95)
        size = {"height": SIDE, "width": SIDE}
        document["videos"].append(
            {"id": 100 + index, "video_name": f"v {index}", "file_names": files, "length": frames, **size}
        )
        for phrase, track in zip(shown, boxes, strict=True):
            masks = [_mask(box) for box in track]
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "video_id": 100 + index,
                    "category_id": 10 + names.index(phrase),
                    "noun_phrase": phrase,
                    "iscrowd": 0,
                    "bboxes": [list(box) for box in track],
                    "segmentations": masks,
                    "areas": [rle.area(mask) for mask in masks],
                    **size,
                }
            )
        for number, phrase in enumerate(names):
            pair = {"id": len(document["video_np_pairs"]), "video_id": 100 + index, "category_id": 10 + number}
            document["video_np_pairs"].append(pair | {"noun_phrase": phrase, "num_masklets": int(phrase in shown)})
    target = path / f"saco_veval_{name}.json"
    target.write_text(json.dumps(document))
    return target


def _path(frames: int, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """A box that moves straight on."""
    (x0, x1), (y0, y1) = rng.integers(0, SIDE - 16, (2, 2))
    share = np.linspace(0, 1, frames)
    return [(int(x0 + s * (x1 - x0)), int(y0 + s * (y1 - y0)), 16, 12) for s in share]


def _mask(box: tuple[int, int, int, int]) -> rle.Rle:
    x, y, w, h = box
    canvas = np.zeros((SIDE, SIDE), dtype=bool)
    canvas[y : y + h, x : x + w] = True
    return rle.encode(canvas)
