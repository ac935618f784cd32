"""Losses, matchers, schedules and groups against the reference: the shipped selection, and all of it where present."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch

from sam3.ops.boxes import box_cxcywh_to_xyxy
from sam3.structures import QueryPredictions, Targets
from sam3.train.losses.find import ClassificationLoss
from sam3.train.matcher import Matches
from tests.parity import training, training_losses
from tests.parity.training_optim import read_json

SELECTION = Path(__file__).resolve().parents[1] / "golden" / "training"

pytestmark = pytest.mark.parity


def _misses(rows):
    return [f"{row.quantity}: {row.error}" for row in rows if not row.ok]


def test_selection():
    rows = training_losses.check(SELECTION)
    assert _misses(rows) == []
    assert len(rows) > 70


def test_everything(shared):
    rows = training_losses.check(shared / "golden" / "training")
    assert _misses(rows) == []
    assert len(rows) > 120


def test_selection_is_part_of_everything(shared):
    everything = shared / "golden" / "training"
    for name in ("lr_schedule.json", "param_groups.json"):
        assert read_json(SELECTION / name) == read_json(everything / name)
    selected, recorded = read_json(SELECTION / "losses.json"), read_json(everything / "losses.json")
    assert selected == {name: recorded[name] for name in selected}


def test_a_wrong_value_is_a_miss(tmp_path):
    directory = shutil.copytree(SELECTION, tmp_path / "golden")
    recorded = read_json(directory / "losses.json")
    recorded["loss.boxes.o2m_indices"]["losses"]["loss_giou"] *= 1.0001
    recorded["match.v2.shipped"]["src_idx"][0] += 1
    recorded["loss.unheard_of"] = copy.deepcopy(recorded["loss.boxes.empty"])
    del recorded["loss.unheard_of"]["losses"]["loss_bbox"]
    (directory / "losses.json").write_text(json.dumps(recorded), encoding="utf-8")
    misses = _misses(training_losses.check(directory))
    assert [miss.split(":")[0] for miss in misses] == ["match.v2.shipped", "loss.boxes.o2m_indices", "loss.unheard_of"]


def test_fixtures_are_known_by_class_and_settings_not_by_name(tmp_path):
    directory = shutil.copytree(SELECTION, tmp_path / "golden")
    recorded = read_json(directory / "losses.json")
    kept = {name: entry for name, entry in recorded.items() if "class" in entry}
    renamed = {f"another.{number}": entry for number, entry in enumerate(kept.values())}
    renamed["tracking"] = {"class": "Det2TrkAssoc", "cfg": {"weight_dict": {}}}
    renamed["separate"] = {"class": "IABCEMdetr", "cfg": {"use_separate_loss_for_det_and_trk": True}}
    renamed["new"] = {"class": "NewLoss", "cfg": {}}
    renamed["broken"] = {"class": "Boxes", "cfg": {}}
    (directory / "losses.json").write_text(json.dumps(renamed), encoding="utf-8")
    rows = training_losses.check(directory)
    assert {row.quantity.split(":")[0] for row in rows} >= set(renamed) - {"tracking", "separate"}
    assert [miss.split(":")[0] for miss in _misses(rows)] == ["new", "broken"]


def test_settings_that_a_fixture_leaves_out_are_the_reference_s():
    fixture = training_losses._Fixture("any", {"class": "IABCEMdetr", "cfg": {"pos_weight": 5, "gamma": None}}, {})
    assert fixture.settings() == {"gamma": 0, "weak_loss": True, "use_presence": False, "pos_weight": 5}


def test_the_last_object_of_a_shared_query_wins_in_the_reference():
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.1, 0.1]])
    corners = box_cxcywh_to_xyxy(boxes)
    predictions = QueryPredictions(torch.zeros(1, 2, 1), boxes[None], corners[None])
    targets = Targets(
        num_boxes=torch.tensor([2]),
        boxes=boxes,
        boxes_padded=boxes[None],
        object_ids=torch.arange(2),
        object_ids_padded=torch.arange(2)[None],
        is_exhaustive=torch.tensor([True]),
    )
    zero, both = torch.zeros(2, dtype=torch.long), torch.arange(2)
    shared = Matches(prompt=zero, query=zero, target=both)
    _, best = ClassificationLoss()._soft_targets(predictions, targets, shared)
    _, last = training_losses._LastObjectWins()._soft_targets(predictions, targets, shared)
    assert best[0].tolist() == pytest.approx([0.5**0.25, 0])
    assert last[0].tolist() == pytest.approx([0.5**0.25 * (1 / 16) ** 0.75, 0])


def test_files_may_be_absent_but_not_all(tmp_path, capsys):
    shutil.copy(SELECTION / "lr_schedule.json", tmp_path)
    assert training.main([str(tmp_path)]) == 0
    assert f"losses.json: not in {tmp_path}" in capsys.readouterr().out
    (tmp_path / "lr_schedule.json").unlink()
    assert training.main([str(tmp_path)]) == 1


def test_program_says_what_it_does_not_cover(capsys):
    assert training.main([str(SELECTION)]) == 0
    printed = capsys.readouterr().out
    assert "not covered" in printed
    assert "loss.tbd_assoc: loss of tracked queries" in printed
