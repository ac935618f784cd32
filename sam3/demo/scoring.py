"""What the demonstration measures: mask AP against trivial answers, and words that should stay silent.

Predictions are those of ``tools/batch_inference.py``, compared with COCO annotations. numpy and
pycocotools only, no network.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam3.errors import DataError
from sam3.eval.coco_ap import coco_ap
from sam3.ops import rle

Record = dict[str, Any]

FIRES_ABOVE = 0.5  # score from which a word counts as found


@dataclass(frozen=True)
class Score:
    """All in [0, 1]."""

    ap_50: float  # mask AP at IoU 0.5, mean over the words
    ap: float  # mask AP averaged over IoU 0.5 to 0.95
    firing_rate: float  # share of the (image, absent word) pairs with a detection above FIRES_ABOVE
    recall: float  # share of the (image, present word) pairs with a detection above FIRES_ABOVE


def score(truth: Mapping[str, Any], records: Sequence[Record]) -> Score:
    """Judge ``records`` (COCO results with masks) against the COCO annotations ``truth``."""
    ap = coco_ap(truth, records, "segm")
    return Score(
        ap_50=ap.ap_50,
        ap=ap.ap,
        firing_rate=_share_that_fires(absent_pairs(truth), records),
        recall=_share_that_fires(present_pairs(truth), records),
    )


def present_pairs(truth: Mapping[str, Any]) -> set[tuple[int, int]]:
    """(image id, category id) of every word that its image shows."""
    return {(a["image_id"], a["category_id"]) for a in truth["annotations"]}


def absent_pairs(truth: Mapping[str, Any]) -> set[tuple[int, int]]:
    """(image id, category id) of every word that its image does not show."""
    every = {(image["id"], category["id"]) for image in truth["images"] for category in truth["categories"]}
    return every - present_pairs(truth)


def centre_boxes(truth: Mapping[str, Any]) -> list[Record]:
    """The answer of one who does not look: every word, in the middle of every image, at its mean size."""
    areas: dict[int, list[float]] = {}
    for annotation in truth["annotations"]:
        areas.setdefault(annotation["category_id"], []).append(annotation["area"])
    return [
        _centre_box(image, category_id, side=float(np.mean(values)) ** 0.5)
        for image in truth["images"]
        for category_id, values in areas.items()
    ]


def read_results(folder: str | Path, truth: Mapping[str, Any]) -> list[Record]:
    """The records of a batch inference folder with the ids of ``truth``; matched by file name and word.

    Raises:
        DataError: the folder is about an image or a word that ``truth`` does not know.
    """
    records = json.loads((Path(folder) / "coco_predictions.json").read_text(encoding="utf-8"))
    listing = json.loads((Path(folder) / "coco_images.json").read_text(encoding="utf-8"))
    images = _renumbering(listing["images"], truth["images"], "file_name")
    words = _renumbering(listing["categories"], truth["categories"], "name")
    return [{**r, "image_id": images[r["image_id"]], "category_id": words[r["category_id"]]} for r in records]


def _renumbering(found: Sequence[Record], known: Sequence[Record], key: str) -> dict[int, int]:
    ids = {entry[key]: entry["id"] for entry in known}
    for entry in found:
        if entry[key] not in ids:
            raise DataError(f"the predictions name {entry[key]!r}, which the annotations do not have")
    return {entry["id"]: ids[entry[key]] for entry in found}


def _share_that_fires(pairs: set[tuple[int, int]], records: Sequence[Record]) -> float:
    fired = {(r["image_id"], r["category_id"]) for r in records if r["score"] > FIRES_ABOVE}
    return len(fired & pairs) / len(pairs) if pairs else 0.0


def _centre_box(image: Record, category_id: int, side: float) -> Record:
    height, width = image["height"], image["width"]
    mask = np.zeros((height, width), dtype=bool)
    top, left = round((height - side) / 2), round((width - side) / 2)
    mask[max(top, 0) : top + round(side), max(left, 0) : left + round(side)] = True
    return {"image_id": image["id"], "category_id": category_id, "segmentation": rle.encode(mask), "score": 1.0}
