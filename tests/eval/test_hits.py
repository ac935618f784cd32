"""Hits, false alarms and misses from COCO files."""

import numpy as np
import pytest

from sam3.eval.coco_ap import coco_ap
from sam3.eval.hits import Counts, counts_of, counts_of_images, find_hits, precision_recall
from sam3.ops import rle

SIZE = 40


def box_mask(x: int, y: int, w: int, h: int) -> rle.Rle:
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[y : y + h, x : x + w] = True
    return rle.encode(mask)


def thing(image: int, category: int, box: tuple[int, int, int, int], **others) -> dict:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "segmentation": box_mask(*box),
        "iscrowd": 0,
        "area": box[2] * box[3],
    } | others


def truth(*annotations: dict, images: int = 3, categories: int = 2) -> dict:
    return {
        "images": [{"id": i, "height": SIZE, "width": SIZE} for i in range(1, images + 1)],
        "categories": [{"id": c, "name": f"class {c}"} for c in range(1, categories + 1)],
        "annotations": [{"id": i, **one} for i, one in enumerate(annotations, start=1)],
    }


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_the_most_confident_takes_the_object(iou_type):
    there = truth(thing(1, 1, (0, 0, 10, 10)), thing(1, 1, (20, 20, 10, 10)), thing(2, 2, (5, 5, 10, 10)))
    found = [
        thing(1, 1, (0, 0, 10, 8), score=0.6),  # IoU 0.8, but the object is taken
        thing(1, 1, (0, 0, 10, 9), score=0.9),  # IoU 0.9
        thing(3, 1, (0, 0, 10, 10), score=0.7),  # nothing there
        thing(1, 1, (20, 20, 10, 4), score=0.8),  # IoU 0.4
    ]
    hits = find_hits(there, found, iou_type)
    assert hits[1].scores.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert hits[1].ious.tolist() == pytest.approx([0.9, 0, 0, 0])
    assert hits[1].image_ids.tolist() == [1, 1, 3, 1]
    assert counts_of(hits[1], 0.0) == Counts(1, 3, 1, pytest.approx(0.9))
    assert counts_of(hits[1], 0.65) == Counts(1, 2, 1, pytest.approx(0.9))
    assert counts_of(hits[1], 0.9) == Counts(0, 0, 2, 0.0)  # the threshold is exceeded, not reached
    assert counts_of(hits[2], 0.0) == Counts(0, 0, 1, 0.0)


def test_quality_of_images():
    there = truth(thing(1, 1, (0, 0, 10, 10)), thing(1, 2, (20, 20, 10, 10)), thing(2, 2, (5, 5, 10, 10)))
    found = [thing(1, 1, (0, 0, 10, 9), score=0.9), thing(2, 1, (5, 5, 10, 10), score=0.9)]
    counts = counts_of_images(find_hits(there, found).values(), [1, 2, 3], 0.5)
    assert counts[1] == Counts(1, 0, 1, pytest.approx(0.9))
    assert counts[1].quality == pytest.approx(0.9 / 1.5)
    assert counts[2] == Counts(0, 1, 1)  # the wrong word answers, the right one is silent
    assert counts[2].quality == 0
    assert counts[3].quality == 1  # nothing there, nothing found
    assert (counts[3].precision, counts[3].recall, counts[3].mean_iou) == (None, None, None)
    assert (counts[1].precision, counts[1].recall) == (1, 0.5)


def test_crowds_are_neither_found_nor_missed():
    there = truth(thing(1, 1, (0, 0, 30, 30), iscrowd=1), thing(2, 1, (0, 0, 30, 30), segmentation=None))
    found = [thing(1, 1, (5, 5, 5, 5), score=0.9), thing(2, 1, (5, 5, 5, 5), score=0.8)]
    assert counts_of(find_hits(there, found)[1], 0.0) == Counts()
    assert counts_of(find_hits(there, found, "bbox")[1], 0.0) == Counts(0, 1, 1)  # a box is an object of box matching


@pytest.mark.parametrize("seed", range(6))
def test_the_curve_agrees_with_coco_ap(seed):
    rng = np.random.default_rng(seed)
    boxes = [(int(x), int(y), 8, 8) for x, y in rng.integers(0, 30, (12, 2))]
    there = truth(*(thing(1 + i % 3, 1, box) for i, box in enumerate(boxes)), categories=1)
    found = [
        thing(1 + i % 3, 1, (x, y, 8, int(rng.integers(3, 9))), score=float(rng.uniform()))
        for i, (x, y, _, _) in enumerate(boxes)
    ]
    hits = find_hits(there, found)[1]
    order = np.cumsum(hits.is_hit)
    precision = np.maximum.accumulate((order / np.arange(1, len(order) + 1))[::-1])[::-1]
    recall = order / hits.num_objects
    at = [precision[recall >= r].max(initial=0.0) for r in np.linspace(0, 1, 101)]
    assert np.mean(at) == pytest.approx(coco_ap(there, found, "segm").ap_50, abs=1e-9)
    curve = precision_recall(hits)
    assert (curve.recall[0], curve.precision[0]) == (recall[-1], precision[-1])
    assert (np.diff(curve.recall) <= 0).all()
    assert (curve.recall[-1], curve.precision[-1]) == (0, 1)


def test_nothing_at_all():
    hits = find_hits(truth(), [])
    assert counts_of(hits[1], 0.5) == Counts()
    assert Counts().quality == 1
    assert precision_recall(hits[1]).recall.tolist() == [0] * 101
