"""The data fixtures: a compact subset in every clone, the full set where it is present."""

import json
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
    assert len(rows) >= 150


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


def test_a_wrong_number_is_a_miss(tmp_path):
    for file in SUBSET.rglob("*"):
        if file.is_file():
            copy = tmp_path / file.relative_to(SUBSET)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    path = tmp_path / "transforms.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["hflip.img10"]["result"]["images"][0]["objects"][0]["bbox"][0] += 0.01
    content["a new fixture"] = {"datapoint_index": 0}
    path.write_text(json.dumps(content), encoding="utf-8")
    assert [row.quantity for row in _misses(check(tmp_path))] == [
        "hflip.img10: boxes",
        "a new fixture: unknown fixture",
    ]
