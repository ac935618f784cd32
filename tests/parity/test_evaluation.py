"""The parity program of evaluation passes on the fixtures, and says so when a number, a mask or a fixture is off."""

import json
import shutil

import numpy as np
import pytest

from tests.parity import evaluation
from tests.parity.evaluation_coco import check as check_coco
from tests.parity.evaluation_image import check as check_image
from tests.parity.evaluation_post import check as check_post
from tests.parity.report import difference

CHECKS = {"image": check_image, "coco": check_coco, "post": check_post}


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        (1, 1.5, 0.5),
        ([1, [2, 3]], [1, [2, 5]], 2),
        (None, None, 0),
        (None, 0.0, np.inf),
        ([1], [1, 2], np.inf),
        ([], [], 0),
    ],
)
def test_differences_of_nested_lists(found, expected, error):
    assert difference(found, expected) == error


def test_the_recorded_selection_passes(repository, capsys):
    assert evaluation.main([str(repository / "tests" / "golden" / "eval")]) == 0
    assert "within limits" in capsys.readouterr().out


def test_a_folder_without_fixtures_is_no_success(tmp_path, capsys):
    assert evaluation.main([str(tmp_path)]) == 1
    assert "image, coco, post, video" in capsys.readouterr().out


@pytest.mark.parity
@pytest.mark.parametrize("part", CHECKS)
def test_every_fixture_is_within_its_limits(part, shared):
    rows = CHECKS[part](shared / "golden" / "eval")
    assert len(rows) > 20
    assert [row for row in rows if not row.ok] == []


@pytest.fixture
def planted(shared, tmp_path):
    """Call it with a file below the fixtures and a change of its content; returns the misses."""

    def run(part, name, change):
        folder = tmp_path / part
        shutil.copytree(shared / "golden" / "eval" / part, folder)
        folder.chmod(0o755)
        path = folder / name
        content = json.loads(path.read_text())
        change(content)
        for place in (path.parent, path):
            place.chmod(0o755)
        path.write_text(json.dumps(content))
        return [row.quantity for row in CHECKS[part](tmp_path) if not row.ok]

    return run


@pytest.mark.parity
def test_a_planted_number_is_found(planted):
    def change(content):
        content["segm"]["metrics"]["cgF1_eval_segm_cgF1"] += 1e-8
        content["bbox"]["per_pair"][0]["annotator"] += 1

    assert planted("image", "gold_mini/expected.json", change) == [
        "image/gold_mini, segm: numbers",
        "image/gold_mini, bbox: results of each pair",
    ]


@pytest.mark.parity
def test_a_planted_ap_is_found_in_both_engines(planted):
    def change(content):
        content["segm"]["coco_eval_segm_AP"] += 1e-8

    assert planted("coco", "expected.json", change) == [
        "coco segm: numbers, pycocotools",
        "coco segm: numbers, fast",
    ]


@pytest.mark.parity
def test_a_planted_mask_and_score_are_found(planted):
    def change(content):
        results = content["cases"]["mask_thresholded_rle"]["results"]
        first = next(iter(results.values()))
        first["masks_rle"][0], first["masks_rle"][1] = first["masks_rle"][1], first["masks_rle"][0]
        content["cases"]["box_original"]["results"]["105"]["scores"][0] += 1e-5

    misses = planted("post", "postprocess.json", change)
    assert misses == ["post box_original: scores", "post mask_thresholded_rle: mask pixels"]


@pytest.mark.parity
def test_a_broken_fixture_is_a_miss_and_the_others_get_their_turn(planted):
    misses = planted("image", "edge_cases.json", lambda content: content[0].pop("expected"))
    assert misses == ["image edge case no_predictions: cannot be compared (KeyError: 'expected')"]
