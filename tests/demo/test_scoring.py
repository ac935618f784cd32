"""The demonstration's numbers on hand-made pictures."""

import json

import numpy as np
import pytest

from sam3.demo.scoring import absent_pairs, centre_boxes, read_results, score
from sam3.errors import DataError
from sam3.ops import rle


def square(top: int, left: int, side: int) -> dict:
    mask = np.zeros((40, 60), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return rle.encode(mask)


def annotation(number: int, image: int, category: int, segmentation: dict, side: int = 10) -> dict:
    return {
        "id": number, "image_id": image, "category_id": category, "segmentation": segmentation,
        "area": side * side, "bbox": [0, 0, side, side], "iscrowd": 0,
    }  # fmt: skip


@pytest.fixture
def truth() -> dict:
    """Two pictures, two words; the first shows both, the second none."""
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 60} for i in (1, 2)],
        "categories": [{"id": 7, "name": "red circle"}, {"id": 9, "name": "blue square"}],
        "annotations": [annotation(1, 1, 7, square(15, 25, 10)), annotation(2, 1, 9, square(0, 0, 10))],
    }


def found(image: int, category: int, segmentation: dict, confidence: float) -> dict:
    return {"image_id": image, "category_id": category, "segmentation": segmentation, "score": confidence}


def test_perfect_answers(truth):
    records = [found(1, 7, square(15, 25, 10), 0.9), found(1, 9, square(0, 0, 10), 0.6)]
    result = score(truth, records)
    assert (result.ap_50, result.ap) == pytest.approx((1, 1))
    assert (result.firing_rate, result.recall) == (0, 1)


def test_a_word_fires_only_above_half(truth):
    records = [found(2, 7, square(0, 0, 10), 0.51), found(2, 9, square(0, 0, 10), 0.5)]
    assert absent_pairs(truth) == {(2, 7), (2, 9)}
    result = score(truth, records)
    assert result.firing_rate == 0.5
    assert result.recall == 0
    assert result.ap_50 == 0


def test_no_answer_scores_nothing(truth):
    result = score(truth, [])
    assert (result.ap_50, result.ap, result.firing_rate, result.recall) == (0, 0, 0, 0)


def test_centre_boxes_name_every_word_in_every_picture(truth):
    records = centre_boxes(truth)
    assert {(r["image_id"], r["category_id"]) for r in records} == {(1, 7), (1, 9), (2, 7), (2, 9)}
    assert rle.to_box_xywh(records[0]["segmentation"]) == [25, 15, 10, 10]
    result = score(truth, records)
    assert result.ap_50 == pytest.approx(0.5)  # 1 for the word that is in the middle, 0 for the other
    assert result.firing_rate == 1


def test_results_take_over_the_annotations_numbers(truth, tmp_path):
    listing = {
        "images": [{"id": 5, "file_name": "2.png"}],
        "categories": [{"id": 1, "name": "blue square"}],
    }
    (tmp_path / "coco_images.json").write_text(json.dumps(listing))
    (tmp_path / "coco_predictions.json").write_text(json.dumps([found(5, 1, square(0, 0, 4), 0.7)]))
    (record,) = read_results(tmp_path, truth)
    assert (record["image_id"], record["category_id"], record["score"]) == (2, 9, 0.7)

    listing["categories"][0]["name"] = "green square"
    (tmp_path / "coco_images.json").write_text(json.dumps(listing))
    with pytest.raises(DataError, match="'green square'"):
        read_results(tmp_path, truth)
