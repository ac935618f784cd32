"""Losses, matchers, schedules and groups against the reference: the shipped selection, and all of it where present."""

import copy
import json
import shutil
from pathlib import Path

import pytest

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


def test_program_says_what_it_does_not_cover(capsys):
    assert training.main([str(SELECTION)]) == 0
    printed = capsys.readouterr().out
    assert "not covered" in printed
    assert "loss.tbd_assoc: loss of tracked queries" in printed
