"""The whole evaluation: structure of the result, and sets in which something is missing."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3.errors import DataError, UserError
from sam3.eval.veval import evaluate, evaluate_files
from sam3.eval.veval_command import SETS, main
from tests.eval.masklets import data, document, track

BOX, APART = (2, 2, 8, 8), (18, 6, 8, 8)
GOOD, FALSE = track([BOX] * 3, score=0.9), track([APART, None, APART], category_id=2, score=0.8)


def files(folder, content, predictions):
    for name, value in (("gt.json", content), ("pred.json", predictions)):
        (folder / name).write_text(json.dumps(value))
    return folder / "gt.json", folder / "pred.json"


def test_the_result_file_has_54_numbers_and_a_row_for_every_pair(tmp_path):
    content = document([track([BOX] * 3)], num_videos=2)
    evaluate_files(*files(tmp_path, content, [GOOD, FALSE]), tmp_path / "new" / "ergebnis ü.json")
    result = json.loads((tmp_path / "new" / "ergebnis ü.json").read_text(), parse_constant=pytest.fail)
    assert list(result) == ["dataset_results", "video_np_results"]
    assert len(result["dataset_results"]) == 54
    assert list(result["dataset_results"])[:3] == [
        "video_bbox_mAP_50_95",
        "video_mask_mAP_50_95",
        "video_bbox_phrase_ap_50_95",
    ]
    where = [(row["video_id"], row["category_id"], len(row)) for row in result["video_np_results"]]
    assert where == [(0, 1, 44), (0, 2, 44), (1, 1, 26), (1, 2, 26)]


@pytest.mark.parametrize(
    ("content", "predictions", "expected"),
    [
        (document([track([BOX] * 3)]), [], {"mask_mAP_50_95": 0.0, "mask_demo_cgf1_micro_50_95": 0.0}),
        (document([track([BOX] * 3)]), [GOOD | {"score": 0.1}], {"mask_mAP_50_95": 1.0, "mask_teta": 0.0}),
        (document([]), [], {"mask_mAP_50_95": -1.0, "mask_all_phrase_LocA": 1.0, "mask_demo_ilmcc_50": 0.0}),
        (document([]), [GOOD, FALSE], {"mask_phrase_ap_50": -1.0, "mask_all_phrase_DetA": 0.0, "mask_teta": 0.0}),
        (document([track([BOX] * 3, iscrowd=1)]), [GOOD], {"mask_mAP_50_95": -1.0, "mask_all_phrase_HOTA": 1.0}),
        (document([track([BOX] * 3)], pairs=[]), [GOOD], {"mask_demo_ilmcc_50_95": 0.0, "mask_all_phrase_HOTA": 1.0}),
        (document([track([None] * 3)]), [GOOD], {"mask_all_phrase_DetA": 0.0, "mask_teta": 0.0}),
        (document([track([BOX] * 3)]), [GOOD, GOOD], {"mask_all_phrase_DetPr": 0.5}),
        (document([track([BOX])], num_frames=1), [track([BOX], score=1)], {"mask_all_phrase_HOTA": 1.0}),
        (document([track([])], num_frames=0), [track([], score=1)], {"mask_all_phrase_HOTA": 0.0, "mask_teta": 0.0}),
        (document([track([(4, 5, 1, 1)] * 3)]), [track([(4, 5, 1, 1)] * 3, score=1)], {"mask_all_phrase_HOTA": 1.0}),
    ],
    ids=[
        "no predictions",
        "no confident",
        "nothing",
        "no objects",
        "crowd",
        "no pairs",
        "void",
        "twice",
        "still",
        "zero frames",
        "pixel",
    ],
)
def test_sets_in_which_something_is_missing(content, predictions, expected):
    numbers = evaluate(data(content, predictions)).to_dict()["dataset_results"]
    assert len(numbers) == 54
    assert all(math.isfinite(value) for value in numbers.values())
    assert {key: numbers[f"video_{key}"] for key in expected} == pytest.approx(expected, abs=1e-6)


boxes = st.one_of(st.none(), st.tuples(st.integers(0, 20), st.integers(0, 12), st.integers(0, 9), st.integers(0, 7)))
masklets = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 3), st.lists(boxes, min_size=2, max_size=2)), max_size=5
)


@settings(max_examples=40, deadline=None)
@given(masklets, masklets, st.lists(st.sampled_from([0.0, 0.5, 0.7, 1.0]), min_size=5, max_size=5))
def test_any_set_gives_numbers_within_their_range(objects, found, scores):
    content = document(
        [track(item, video_id=video, category_id=category) for video, category, item in objects],
        num_videos=2,
        num_frames=2,
    )
    predictions = [
        track(item, video_id=video, category_id=category, score=score)
        for (video, category, item), score in zip(found, scores, strict=False)
    ]
    numbers = evaluate(data(content, predictions)).to_dict()["dataset_results"]
    assert len(numbers) == 54
    for key, value in numbers.items():
        assert -1.0 <= value <= (100.0 if _is_percent(key) else 1.0), key


def _is_percent(key):
    return key.removeprefix("video_mask_").split("_")[0] in ("teta", "loc", "assoc", "cls")


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_one_writes_the_file_and_prints_the_published_numbers(tmp_path, capsys):
    truth, predictions = files(tmp_path, document([track([BOX] * 3)]), [GOOD])
    result = tmp_path / "result.json"
    assert run("one", "--gt_annot_file", truth, "--pred_file", predictions, "--eval_res_file", result) == 0
    assert capsys.readouterr().out.splitlines()[0] == "gt: cgF1 100.0, pHOTA 100.0"
    assert result.is_file()


def test_one_says_why_there_is_no_cgf1(tmp_path, capsys):
    content = document([track([BOX] * 3)])
    del content["video_np_pairs"]
    truth, predictions = files(tmp_path, content, [GOOD])
    run("one", "--gt_annot_file", truth, "--pred_file", predictions, "--eval_res_file", tmp_path / "r.json")
    shown = capsys.readouterr()
    assert "has no video_np_pairs, so there is no cgF1" in shown.err
    assert shown.out.startswith("gt: cgF1 -, pHOTA 100.0")


def test_all_reads_both_names_of_predictions(tmp_path, capsys):
    names = SETS[0], SETS[3]
    for name, suffix in zip(names, ("_preds", ""), strict=True):
        truth, predictions = files(tmp_path, document([track([BOX] * 3)]), [GOOD])
        (tmp_path / "gt").mkdir(exist_ok=True)
        (tmp_path / "pred").mkdir(exist_ok=True)
        truth.rename(tmp_path / "gt" / f"{name}.json")
        predictions.rename(tmp_path / "pred" / f"{name}{suffix}.json")
    folders = (
        *("--gt_annot_dir", tmp_path / "gt", "--pred_dir", tmp_path / "pred"),
        *("--eval_res_dir", tmp_path / "res"),
    )
    with pytest.raises(DataError, match=r"8 of 12 files are missing \(first: .*choose the sets that you have"):
        run("all", *folders)
    assert not (tmp_path / "res").exists()
    assert run("all", *folders, "--subset", *names) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == list(names)
    assert sorted(path.name for path in (tmp_path / "res").iterdir()) == sorted(f"{n}_eval_res.json" for n in names)


def test_a_truncated_file_leaves_no_result(tmp_path):
    truth, predictions = files(tmp_path, document([track([BOX] * 3)]), [GOOD])
    predictions.write_text(predictions.read_text()[:-20])
    with pytest.raises(DataError, match=r"pred\.json is not valid JSON in entry 0"):
        evaluate_files(truth, predictions, tmp_path / "result.json")
    assert not (tmp_path / "result.json").exists()


def test_an_unknown_mode_is_named(capsys):
    with pytest.raises(UserError, match="unknown subcommand 'on' .did you mean 'one'"):
        run("on")
    with pytest.raises(SystemExit):
        run()
    assert f"  {'one':<10}one ground truth file" in capsys.readouterr().out


def test_the_script_and_the_metrics_need_no_torch(repository, tmp_path):
    script = repository / "scripts" / "eval" / "veval" / "eval_veval.py"
    done = subprocess.run([sys.executable, script, "one", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--eval_res_file" in done.stdout
    program = "import sys, sam3.eval.veval_command, sam3.eval.video_command; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
