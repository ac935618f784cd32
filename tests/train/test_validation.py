"""Validation: what is predicted, written and measured."""

import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from sam3.eval.coco_ap import coco_ap
from sam3.eval.prediction_file import read_predictions
from sam3.ops import rle
from sam3.structures import DetectorOutput, QueryPredictions
from sam3.train.prediction_images import choose_images, compare
from sam3.train.validation import ValidationResult
from tests.train.micro import MULTI, make_trainer, overrides


class Oracle(torch.nn.Module):
    """Answers with the ground truth of the batch: one query an object, the rest unsure."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, batch) -> DetectorOutput:
        torch.rand(1)  # a careless network that draws outside of training
        counts, targets = batch.targets.num_boxes.tolist(), batch.targets
        queries = max(counts) + 1
        logits = torch.full((len(counts), queries, 1), -4.0)
        boxes = torch.full((len(counts), queries, 4), 0.5)
        masks = torch.full((len(counts), queries, *targets.masks.shape[-2:]), -8.0)
        start = 0
        for prompt, count in enumerate(counts):
            logits[prompt, :count] = 4.0
            boxes[prompt, :count] = targets.boxes[start : start + count]
            masks[prompt, :count] = targets.masks[start : start + count].float() * 16 - 8
            start += count
        xyxy = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)
        presence = torch.tensor([[6.0 if count else -6.0] for count in counts])
        return DetectorOutput(QueryPredictions(logits, boxes, xyxy, presence, masks))


@pytest.fixture
def validator(one_class, tmp_path):
    settings = ["trainer.validation.compute_loss=false", "trainer.validation.max_detections=2"]
    return make_trainer(one_class, tmp_path, *settings).validator


def test_an_oracle_scores_one(validator):
    validator.settings.max_detections = 100
    result = validator.run(Oracle(), nullcontext())
    assert result.box.ap == pytest.approx(1.0)
    assert result.mask.ap_50 == pytest.approx(1.0)
    assert result.mask.ap > 0.6  # masks go through the network's square and back
    assert result.concepts.cgf1.il_mcc == pytest.approx(1.0)
    assert (result.images, result.metric_name) == (3, "cgF1_eval_segm_cgF1")
    assert result.metric == pytest.approx(result.concepts.cgf1.cgf1.mean())


def test_only_the_best_of_an_image_are_written(validator):
    validator.run(Oracle(), nullcontext())
    records = read_predictions(validator.prediction_path("segm"))
    for key, table in (("image_id", "images"), ("category_id", "categories")):
        assert {record[key] for record in records} <= {entry["id"] for entry in validator.ground_truth[table]}
    counts = [sum(r["image_id"] == image["id"] for r in records) for image in validator.ground_truth["images"]]
    assert max(counts) <= 2
    assert {tuple(r["segmentation"]["size"]) for r in records} == {(64, 48)}  # of the image file, not of the input


def test_validation_leaves_the_training_alone(one_class, tmp_path):
    trainer = make_trainer(one_class, tmp_path)
    trainer.validator.criterion, criterion = None, trainer.validator.criterion
    state = torch.get_rng_state()
    trainer.validator.run(Oracle(), nullcontext())
    assert torch.equal(torch.get_rng_state(), state)
    trainer.validator.criterion = criterion
    trainer.model.train()
    result = trainer.validator.run(trainer.model, nullcontext())
    assert trainer.model.training
    assert all(p.grad is None for p in trainer.model.parameters())
    assert result.losses["loss"] > 0
    assert not any("o2m" in name or "aux" in name for name in result.losses)


def test_validation_data_without_any_object(one_class, tmp_path):
    data = shutil.copytree(one_class, tmp_path / "data")
    path = data / "val/annotations.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    trainer = make_trainer(data, tmp_path / "run", "scratch.max_epochs=1")
    result = trainer.run()
    assert (result.metric, result.box.ap) == (-1.0, -1.0)
    assert (tmp_path / "run/checkpoints/best.pt").is_file()


def test_limit_ids_limits_the_ground_truth_too(one_class, tmp_path):
    validator = make_trainer(one_class, tmp_path, "data.val.dataset.limit_ids=1").validator
    assert len(validator.ground_truth["images"]) == 1
    used = validator.ground_truth["images"][0]["id"]
    assert {entry["image_id"] for entry in validator.ground_truth["annotations"]} <= {used}


def test_names_of_the_numbers():
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "螺栓"}]}
    result = ValidationResult(box=coco_ap(truth, []), mask=None, losses={"loss_ce": 2.0})
    values = result.to_dict()
    assert values["Losses/val_coco_loss_ce"] == 2.0
    assert values["Meters_val/val_coco/detection/coco_eval_bbox_AP"] == -1.0
    assert values["Meters_val/val_coco/detection/per_class_AP/螺栓"] == -1.0
    assert "box AP -1.000" in result.summary()
    assert "mask" not in result.summary()


def test_pictures_of_the_same_images_every_time(one_class):
    truth = json.loads((one_class / "val/annotations.json").read_text())
    chosen = choose_images(truth, 2)
    assert chosen == choose_images(truth, 2)
    assert all(any(entry["image_id"] == image["id"] for entry in truth["annotations"]) for image in chosen)
    assert len(choose_images(truth, 99)) == 2  # the third shows nothing
    assert choose_images({"images": [], "annotations": []}, 3) == []


def test_a_picture_shows_truth_left_and_predictions_right(one_class):
    truth = json.loads((one_class / "val/annotations.json").read_text())
    image = truth["images"][0]
    mask = np.zeros((64, 48), dtype=bool)
    mask[10:30, 5:25] = True
    found = [{"image_id": image["id"], "category_id": 1, "segmentation": rle.encode(mask), "score": 0.8}]
    folder = one_class / "val/images"
    picture = compare(image, folder, truth, found, 0.5)
    assert picture.shape == (8 * 64, 8 * 48 + 4 + 8 * 48, 3)  # enlarged, so that labels can be read
    hidden = compare(image, folder, truth | {"annotations": []}, found, 0.8)  # a score must exceed the threshold
    left, right = np.s_[:, : 8 * 48], np.s_[:, 8 * 48 + 4 :]
    assert np.array_equal(hidden[left], hidden[right])  # nothing drawn: the photograph itself, twice
    assert not np.array_equal(picture[left], hidden[left])
    changed = (picture[right] != hidden[right]).any(-1)
    assert changed[8 * 12 : 8 * 28, 8 * 7 : 8 * 23].all()
    assert not changed[8 * 35 :, 8 * 30 :].any()


def test_several_phrases_of_an_image_share_its_limit(three_classes, tmp_path):
    from sam3.train.assembly import build_trainer, lay_foundation
    from sam3.train.config_loading import load_config

    settings = overrides(three_classes, tmp_path, "trainer.validation.max_detections=5", class_name=None)
    loaded = load_config(MULTI, settings)
    validator = build_trainer(loaded, lay_foundation(loaded.run)).validator
    validator.run(Oracle(), nullcontext())
    records = read_predictions(validator.prediction_path("bbox"))
    counts = {
        image["id"]: sum(r["image_id"] == image["id"] for r in records) for image in validator.ground_truth["images"]
    }
    assert max(counts.values()) == 5
    assert len({r["category_id"] for r in records}) == 3
