"""Records, the per-image cap, and the file on disk."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from sam3.errors import DataError
from sam3.eval import prediction_file
from sam3.ops import rle
from sam3.structures import Detections, ImageObjects


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


def _record(image_id, score, category_id=1):
    return {"image_id": image_id, "category_id": category_id, "score": score, "bbox": [0, 0, 1, 1]}


def test_an_earlier_rank_wins_and_duplicates_inside_a_rank_stay():
    first = [_record(1, 0.5), _record(1, 0.4), _record(2, 0.9)]
    second = [_record(1, 0.8), _record(1, 0.7, category_id=2), _record(3, 0.1)]
    merged = prediction_file.merge_ranks([first, second])
    assert merged == [first[0], first[1], second[1], first[2], second[2]]
    assert prediction_file.merge_ranks([first, second], max_detections=1) == [second[1], first[2], second[2]]
    assert prediction_file.merge_ranks([]) == []


def test_files_of_ranks_are_merged_into_one(tmp_path):
    for rank in range(2):
        prediction_file.write_predictions(
            prediction_file.prediction_path(tmp_path, "bbox", rank), [_record(rank, 0.5), _record(7, rank / 2)]
        )
    path = prediction_file.merge_rank_files(tmp_path, "bbox", 2)
    assert path.name == "coco_predictions_bbox.json"
    assert prediction_file.read_predictions(path) == [_record(0, 0.5), _record(7, 0.0), _record(1, 0.5)]
    with pytest.raises(DataError, match="coco_predictions_bbox_2.json"):
        prediction_file.merge_rank_files(tmp_path, "bbox", 3)


@pytest.mark.parametrize("compressed", [False, True])
def test_records_of_a_picture(compressed):
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[0, 1:3, 1:3] = True
    masks = [rle.encode(mask[0].numpy())] if compressed else mask
    found = ImageObjects(torch.tensor([0.1234567]), torch.tensor([3]), torch.tensor([[0.2, 0.25, 0.6, 0.75]]), masks)
    (record,) = prediction_file.object_records(found, image_id=9, with_masks=True)
    assert record == {
        "image_id": 9,
        "category_id": 3,
        "bbox": [0.2, 0.25, 0.4, 0.5],
        "score": 0.12346,
        "segmentation": rle.encode(mask[0].numpy()),
        "area": 0.2,
    }
    assert "segmentation" not in prediction_file.object_records(found, image_id=9, with_masks=False)[0]
