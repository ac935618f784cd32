"""The data fixtures: a compact subset in every clone, the full set where it is present."""

import json
import shutil
from pathlib import Path

import pytest

from tests.parity.report import Row
from tests.parity.training_data import check, is_left_out

pytestmark = pytest.mark.parity

SUBSET = Path(__file__).parents[1] / "golden" / "training"


def _misses(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not row.ok]


def test_subset_in_the_repository_is_within_limits():
    rows = check(SUBSET)
    assert _misses(rows) == []
    assert len(rows) >= 140


def test_full_set_is_within_limits_and_accounted_for(shared):
    directory = shared / "golden" / "training"
    rows = check(directory)
    assert _misses(rows) == []
    fixtures = {
        name
        for file in ("transforms.json", "dataset_behaviour.json", "coco_toy/expected_loaders.json")
        for name in json.loads((directory / file).read_text(encoding="utf-8"))
    }
    checked = {name for name in fixtures if any(row.quantity.startswith((f"{name}:", f"{name}.")) for row in rows)}
    assert [name for name in fixtures - checked if not is_left_out(name)] == []
    assert [name for name in checked if is_left_out(name)] == []


def test_other_pictures_and_fewer_fixtures(tmp_path):
    """Other names, no fixture that shows the example boxes unmoved, no fixture of the first training sample."""
    path = shutil.copytree(SUBSET, tmp_path / "golden") / "transforms.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["train_pipeline.dp0"]
    content = {name.replace("img10", "another"): fixture for name, fixture in content.items()}
    path.write_text(json.dumps(content), encoding="utf-8")
    rows = check(path.parent)
    assert _misses(rows) == []
    names = {row.quantity for row in rows}
    assert {"hflip.another: input boxes", "pad4.another: input boxes", "collate.train: boxes"} <= names

    del content["pad4.another"]
    path.write_text(json.dumps(content), encoding="utf-8")
    rows = check(path.parent)
    assert _misses(rows) == []
    assert "hflip.another: boxes" in {row.quantity for row in rows}
    assert "hflip.another: input boxes" not in {row.quantity for row in rows}


def test_what_cannot_be_compared_is_a_miss(tmp_path):
    path = shutil.copytree(SUBSET, tmp_path / "golden") / "transforms.json"
    content = {"hflip.img10": {"datapoint_index": 0}, "center_crop.of_another": {}, "collate.train": {}}
    path.write_text(json.dumps(content), encoding="utf-8")
    (path.parent / "dataset_behaviour.json").unlink()
    misses = [row.quantity for row in _misses(check(path.parent))]
    assert [miss.split(":")[0] for miss in misses] == ["hflip.img10", "collate.train"]
    assert all("cannot be compared" in miss for miss in misses)


def test_a_wrong_number_is_a_miss(tmp_path):
    path = shutil.copytree(SUBSET, tmp_path / "golden") / "transforms.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["hflip.img10"]["result"]["images"][0]["objects"][0]["bbox"][0] += 0.01
    content["a new fixture"] = {"datapoint_index": 0}
    path.write_text(json.dumps(content), encoding="utf-8")
    assert [row.quantity for row in _misses(check(path.parent))] == [
        "hflip.img10: boxes",
        "a new fixture: unknown fixture",
    ]
