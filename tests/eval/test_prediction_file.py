"""Records, the per-image cap, and the file on disk."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from sam3.errors import DataError
from sam3.eval import prediction_file
from sam3.ops import rle
from sam3.structures import Detections


@pytest.fixture
def detections():
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[0, 1:3, 1:4] = True
    return Detections(
        boxes=torch.tensor([[1.0, 1.0, 4.123456789, 3.0], [-1.0, 0.0, 2.0, 2.0]], dtype=torch.float64),
        scores=torch.tensor([0.1234567, 0.9]),
        masks=masks,
    )


def test_box_records_are_xywh_and_rounded(detections):
    before = detections.boxes.clone()
    first, second = prediction_file.box_records(detections, image_id=7, category_id=3)
    assert first == {"image_id": 7, "category_id": 3, "bbox": [1.0, 1.0, 3.12346, 2.0], "score": 0.12346}
    assert second["bbox"] == [-1.0, 0.0, 3.0, 2.0]
    assert torch.equal(detections.boxes, before)


def test_mask_records_hold_the_mask_and_its_share(detections):
    first, second = prediction_file.mask_records(detections, image_id=7, category_id=3)
    assert np.array_equal(rle.decode(first["segmentation"]), detections.masks[0].numpy())
    assert first["area"] == pytest.approx(6 / 20)
    assert second["area"] == 0.0
    assert "bbox" not in first


def test_no_detections_give_no_records():
    empty = Detections(boxes=torch.zeros(0, 4), scores=torch.zeros(0), masks=torch.zeros(0, 4, 5, dtype=torch.bool))
    assert prediction_file.box_records(empty, image_id=1, category_id=1) == []
    assert prediction_file.mask_records(empty, image_id=1, category_id=1) == []
    with pytest.raises(DataError, match="with masks"):
        prediction_file.mask_records(Detections(empty.boxes, empty.scores), image_id=1, category_id=1)


def test_best_per_image_over_all_categories():
    scores = {1: [(1, 0.5), (2, 0.9), (1, 0.7)], 2: [(1, 0.1)]}
    records = [
        {"image_id": image, "category_id": category, "score": score}
        for image, group in scores.items()
        for category, score in group
    ]
    kept = prediction_file.keep_best_per_image(records, 2)
    assert [(r["image_id"], r["category_id"], r["score"]) for r in kept] == [(1, 2, 0.9), (1, 1, 0.7), (2, 1, 0.1)]
    assert prediction_file.keep_best_per_image(records, -1) == records
    assert prediction_file.keep_best_per_image([], 2) == []


def test_file_round_trip(tmp_path, detections):
    records = prediction_file.box_records(detections, image_id=1, category_id=2)
    path = tmp_path / "输出" / "coco_predictions_bbox.json"
    prediction_file.write_predictions(path, records)
    assert prediction_file.read_predictions(path) == records
    prediction_file.write_predictions(path, [])
    assert prediction_file.read_predictions(path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "expected a JSON list"),
        ("[", "not valid JSON"),
        ("[3]", "record 0 is int"),
        ('[{"image_id": 1, "score": 1}]', "lacks category_id, bbox or segmentation"),
        ('[{"image_id": 1, "category_id": 1, "score": "high", "bbox": [0, 0, 1, 1]}]', "score 'high'"),
        ('[{"image_id": 1, "category_id": 1, "score": 1, "bbox": [0, 0, 1]}]', "expected \\[x, y, w, h\\]"),
    ],
)
def test_broken_files_are_named(tmp_path, content, message):
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        prediction_file.read_predictions(path)


def test_measuring_needs_no_torch():
    code = "import sys, sam3.eval.coco_ap, sam3.eval.prediction_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
