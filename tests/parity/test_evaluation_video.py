"""The parity program of the video metrics finds no miss on the fixtures, and finds one that is planted."""

import json
import math
import shutil

import pytest

from tests.parity.evaluation_video import check, compare, corner_rows, instead

pytestmark = pytest.mark.parity


def test_every_fixture_is_within_its_limits(shared):
    rows = check(shared / "golden" / "eval")
    assert len(rows) > 50
    assert [row for row in rows if not row.ok] == []


def test_another_folder_of_the_same_layout_is_read_and_an_error_in_it_found(shared, tmp_path):
    case = tmp_path / "video" / "anders"
    shutil.copytree(shared / "golden" / "eval" / "video" / "case_a", case)
    expected = json.loads((case / "expected.json").read_text())
    expected["dataset_results"]["video_mask_all_phrase_HOTA"] += 1e-8
    expected["video_np_results"][0]["mask_TP_50"] += 1
    (case / "expected.json").write_text(json.dumps(expected))
    misses = [row.quantity for row in check(tmp_path) if not row.ok]
    assert misses == ["video/anders: HOTA of masks", "video/anders pairs: numbers"]


def test_a_missing_or_extra_key_is_a_miss():
    assert not all(row.ok for row in compare("x", {"video_mask_teta": 1.0}, {"video_mask_loc_a": 1.0}))


def test_a_value_that_is_not_there_is_a_miss_whatever_the_others_are():
    rows = list(compare("x", {"a": None, "b": 1.0}, {"a": 1.0, "b": 1.0}))
    assert math.isnan(rows[1].error)
    assert not rows[1].ok


def test_the_number_of_the_image_level_takes_the_place_of_one_divided_by_zero():
    wanted = {"video_bbox_demo_ilmcc_50_95": 0.25, "video_bbox_demo_ilmcc_50": None}
    found = {"video_bbox_demo_ilmcc_50_95": 0.25, "video_bbox_demo_ilmcc_50": 0.25}
    assert all(row.ok for row in compare("x", found, wanted))
    assert not all(row.ok for row in compare("x", {**found, "video_bbox_demo_ilmcc_50": 0.0}, wanted))


def test_where_the_reference_stops_the_values_of_nothing_are_wanted():
    corner = {"preds": [], "gt": {"annotations": []}}
    keys = dict.fromkeys(["video_mask_mAP_50_95", "video_mask_all_phrase_LocA", "video_mask_teta"])
    assert instead("map", corner, keys) == {**keys} | dict(zip(keys, (-1.0, 1.0, 0.0), strict=True))


def test_input_that_is_refused_must_stop_the_reference_too():
    corner = {"gt": {"videos": []}, "preds": [], "expected": {"map": {"raises": "KeyError"}}}
    assert [row.ok for row in corner_rows(corner, "x")] == [True]
    corner["expected"]["phota"] = {}
    assert [row.ok for row in corner_rows(corner, "x")] == [False]
