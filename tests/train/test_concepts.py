"""Validation with phrases from outside the data set: files, numbers, drift."""

import json
from contextlib import nullcontext

import pytest
import torch

from sam3.errors import ConfigError
from sam3.eval.confusion import ConfusionMatrix
from sam3.train.config_loading import load_config
from tests.train.micro import SINGLE, make_trainer, overrides, train
from tests.train.test_validation import Oracle

NO_NEGATIVES = ["data.probes=null", "data.val.dataset.include_negatives=false"]


def test_files_from_which_the_numbers_can_be_computed_again(one_class, tmp_path):
    validator = make_trainer(one_class, tmp_path, "trainer.validation.compute_loss=false").validator
    result = validator.run(Oracle(), nullcontext())
    folder = tmp_path / "dumps/val"
    pairs = json.loads((folder / "concept_pairs.json").read_text())
    assert len(pairs["pairs"]) == 3 + 3 * 2  # three images; one class and two general phrases each
    assert {str(category_id) for _, category_id in pairs["pairs"]} == set(pairs["phrases"])
    confident = json.loads((folder / "concept_predictions_segm.json").read_text())
    assert {record["category_id"] for record in confident} == {1}
    matrix = ConfusionMatrix.from_dict(json.loads((folder / "confusion_matrix.json").read_text()))
    objects = len(validator.ground_truth["annotations"])
    assert matrix.counts == [[objects, 0], [0, 0]]
    assert (matrix.asked, matrix.missed) == ([3, 6], [0])
    ap_records = json.loads((folder / "coco_predictions_segm.json").read_text())
    assert {record["category_id"] for record in ap_records} == {1}
    values = result.to_dict()
    assert values["Meters_val/val_coco/concepts/cgF1_eval_segm_IL_MCC"] == pytest.approx(1.0, abs=1e-4)
    assert values["Meters_val/val_coco/concepts/wrong_prompt_rate_general"] == 0.0
    assert "wrong prompts that fire: absent classes 0.0% of 1, general phrases 0.0% of 6" in result.summary()


def test_the_best_is_chosen_by_ap_where_cgf1_is_undefined(one_class, tmp_path, sam3_log):
    validator = make_trainer(one_class, tmp_path, *NO_NEGATIVES).validator
    assert validator.run(Oracle(), nullcontext()).metric_name == "coco_eval_segm_AP"
    assert "the best checkpoint is chosen by AP instead" in sam3_log.text
    by_ap = make_trainer(one_class, tmp_path / "ap", "trainer.best_metric=ap").validator
    result = by_ap.run(Oracle(), nullcontext())
    assert (result.metric_name, result.metric) == ("coco_eval_segm_AP", result.mask.ap)


def test_starting_scores_are_kept_for_the_resumed_run(one_class, tmp_path):
    settings = ["trainer.validation.drift_images=2", "trainer.validation.drift_phrases=3"]
    out = train(one_class, tmp_path, "scratch.max_epochs=1", *settings)
    start = json.loads((out / "dumps/val/drift_start.json").read_text())
    assert len(start) == 3
    assert [len(row) for row in start.values()] == [2, 2, 2]
    train(one_class, tmp_path, "scratch.max_epochs=2", *settings)
    assert json.loads((out / "dumps/val/drift_start.json").read_text()) == start
    lines = [json.loads(line) for line in (out / "logs/val_stats.json").read_text().splitlines()]
    drifts = [line["Meters_val/val_coco/concepts/drift"] for line in lines]
    assert all(0 < drift < 1 for drift in drifts)
    assert drifts[0] != drifts[1]


def test_without_the_starting_scores_the_drift_is_unknown(one_class, tmp_path):
    trainer = make_trainer(one_class, tmp_path)
    probe = trainer.validator.drift
    probe.begin(trainer.model, nullcontext(), is_start=False)
    assert probe.measure(trainer.model, nullcontext()) is None
    assert not probe.path.exists()
    probe.begin(trainer.model, nullcontext(), is_start=True)
    assert probe.measure(trainer.model, nullcontext()).value == 0
    kept = dict(list(json.loads(probe.path.read_text()).items())[:4]) | {"no longer asked": {"1": 0.5}}
    probe.path.write_text(json.dumps(kept))
    probe.begin(trainer.model, nullcontext(), is_start=False)
    assert probe.measure(trainer.model, nullcontext()).pairs == 4 * len(probe.indices)


def test_drift_is_off_on_request_and_leaves_random_numbers_alone(one_class, tmp_path):
    assert make_trainer(one_class, tmp_path, "trainer.validation.drift_images=0").validator.drift is None
    trainer = make_trainer(one_class, tmp_path / "on")
    trainer.model.train()
    state = torch.get_rng_state()
    trainer.validator.begin(trainer.model, nullcontext(), is_start=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert trainer.model.training


def test_keys_of_the_open_vocabulary(tmp_path):
    keys = ["data.negatives.per_image=3", "data.negatives.other_names=[bolt]", "data.probes.per_image=5"]
    run = load_config(SINGLE, overrides(tmp_path, tmp_path, *keys, "trainer.drift_limit=0.2")).run
    assert run.data.train.dataset["negatives"]["per_image"] == 3
    assert run.data.train.dataset["negatives"]["other_names"] == ["bolt"]
    assert run.data.val.dataset["negatives"]["per_image"] == 5
    assert (run.trainer.best_metric, run.trainer.drift_limit) == ("cgf1", 0.2)
    none = load_config(SINGLE, overrides(tmp_path, tmp_path, "data.negatives=null")).run
    assert none.data.train.dataset["negatives"] is None
    for key in ("data.negatives.many=3", "trainer.best_metric=f1", "trainer.drift_limit=2"):
        with pytest.raises(ConfigError, match=key.split("=")[0].split(".")[-1]):
            load_config(SINGLE, overrides(tmp_path, tmp_path, key))
