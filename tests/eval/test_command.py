"""The commands of evaluation: what they print, write and refuse; they start without torch."""

import json
import subprocess
import sys

import pytest

from sam3.errors import UserError
from sam3.eval.benchmark_command import GOLD, SILVER
from sam3.eval.command import EVALUATIONS, main, usage
from tests.eval.saco_files import found, image, thing, truth, write

BOX = (5, 5, 10, 10)


def run(*arguments, cwd):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def files(tmp_path):
    """Predictions and ground truth: one of two objects is found, a negative pair is left alone."""
    content = truth([image(1), image(2)], [thing(1, BOX), thing(1, (30, 20, 10, 10))])
    return write(tmp_path / "vorhersage ü.json", [found(1, BOX)]), write(tmp_path / "gt.json", content)


def test_help_lists_every_evaluation(capsys):
    for arguments in ([], ["--help"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out.strip() == usage()
    assert all(f"  {name} " in usage() for name in EVALUATIONS)
    with pytest.raises(UserError, match="unknown subcommand 'godl' .did you mean 'gold'"):
        main(["godl"])


@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_evaluation_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_the_script_and_the_subcommand_print_the_numbers_as_json(files, repository, capsys):
    arguments = ["--pred_file", str(files[0]), "--gt_files", str(files[1])]
    done = run("scripts/eval/standalone_cgf1.py", *arguments, cwd=repository)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    assert list(numbers)[0] == "cgF1_eval_segm_cgF1"
    assert numbers["cgF1_eval_segm_recall"] == pytest.approx(0.5, abs=1e-4)
    assert "2 pairs evaluated: 1 TP, 0 FP, 1 TN, 0 FN" in done.stderr
    output = files[0].parent / "out" / "numbers.json"
    assert main(["cgf1", *arguments, "--output", str(output)]) == 0
    assert json.loads(capsys.readouterr().out) == numbers == json.loads(output.read_text())


def test_boxes_workers_and_threshold_take_effect(files, capsys):
    arguments = ["cgf1", "--pred_file", str(files[0]), "--gt_files", str(files[1]), "--workers", "2"]
    main([*arguments, "--iou_type", "bbox"])
    assert json.loads(capsys.readouterr().out)["cgF1_eval_bbox_recall"] == pytest.approx(0.5, abs=1e-4)
    main([*arguments, "--score_threshold", "0.95"])
    assert json.loads(capsys.readouterr().out)["cgF1_eval_segm_recall"] == 0
    with pytest.raises(SystemExit):
        main([*arguments, "--workers", "0"])


def test_two_gold_files_are_worth_a_note(files, repository, tmp_path):
    names = [tmp_path / f"gold_crowded_merged_{letter}_release_test.json" for letter in "ab"]
    for name in names:
        name.write_bytes(files[1].read_bytes())
    done = run("scripts/eval/standalone_cgf1.py", "--pred_file", files[0], "--gt_files", *names, cwd=repository)
    assert "SA-Co/Gold has three annotators per subset, 2 given" in done.stderr


def test_errors_are_one_paragraph_and_exit_code_2(files, repository):
    done = run("-m", "sam3", "eval", "cgf1", "--pred_file", "absent.json", "--gt_files", files[1], cwd=repository)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cannot read absent.json")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def gold_folders(tmp_path):
    """Two subsets: one perfect with a negative pair, one where nothing is found."""
    gt, pred = tmp_path / "gt", tmp_path / "pred"
    for letter in "abc":
        content = truth([image(1), image(2)], [thing(1, BOX)])
        write(gt / f"gold_metaclip_merged_{letter}_release_test.json", content)
        write(gt / f"gold_crowded_merged_{letter}_release_test.json", content)
    for name, records in (("metaclip_nps", [found(1, BOX)]), ("crowded", [])):
        write(pred / f"gold_{name}/dumps/gold_{name}/coco_predictions_segm.json", records)
    return gt, pred


def test_gold_prints_a_line_per_subset_and_the_plain_mean(gold_folders, repository, tmp_path):
    gt, pred = gold_folders
    arguments = ["-g", gt, "-p", pred, "--subset", "metaclip_nps", "crowded", "--output", tmp_path / "all.json"]
    done = run("scripts/eval/gold/eval_sam3.py", *arguments, cwd=repository)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("metaclip_nps: 99.9")
    assert lines[1] == "crowded: 0.00,0.00,0.00"
    assert lines[2].startswith("average: 49.9")
    assert json.loads((tmp_path / "all.json").read_text())["crowded"]["cgF1_eval_segm_cgF1"] == 0


def test_missing_files_are_counted_before_any_work(gold_folders, repository):
    gt, pred = gold_folders
    done = run("scripts/eval/gold/eval_sam3.py", "-g", gt, "-p", pred, cwd=repository)
    assert done.returncode == 2
    assert "20 of 28 files are missing (first:" in done.stderr
    assert "--subset" in done.stderr


def test_silver_has_one_annotator(tmp_path, repository):
    for name, file in (("nga", "silver_nga_art_merged_test.json"), ("fathomnet", "silver_fathomnet_test.json")):
        write(tmp_path / file, truth([image(1), image(2)], [thing(1, BOX)]))
        write(tmp_path / f"silver_{name}/dumps/silver_{name}/coco_predictions_segm.json", [found(1, BOX)])
    arguments = ["-g", tmp_path, "-p", tmp_path, "--subset", "nga_art", "fathomnet"]
    done = run("scripts/eval/silver/eval_silver.py", *arguments, cwd=repository)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["nga_art", "fathomnet", "average"]


def test_the_benchmarks_have_their_published_subsets():
    assert (len(GOLD.subsets), len(SILVER.subsets)) == (7, 10)
    assert GOLD.subsets[1].truth[2] == "gold_sa1b_merged_c_release_test.json"


def test_coco_ap_of_files(tmp_path, capsys):
    box = [5.0, 5.0, 10.0, 10.0]
    gt = write(tmp_path / "gt.json", truth([image(1)], [thing(1, BOX, bbox=box)]))
    pred = write(tmp_path / "pred.json", [found(1, BOX, bbox=box)])
    arguments = ["coco", "--pred_file", str(pred), "--gt_file", str(gt), "--output", str(tmp_path / "ap.json")]
    printed = set()
    for engine in ("pycocotools", "fast"):
        for iou_type in ("bbox", "segm"):
            assert main([*arguments, "--engine", engine, "--iou_type", iou_type, "--per_class"]) == 0
            printed.add(capsys.readouterr().out.replace("segm", "bbox"))
            assert json.loads((tmp_path / "ap.json").read_text())[f"coco_eval_{iou_type}_AP"] == pytest.approx(1)
    assert len(printed) == 1
    assert "object: AP 1.0000" in printed.pop()


def test_evaluation_loads_no_torch(files, repository):
    program = (
        "import sys\nfrom sam3.cli import main\n"
        f"main(['eval', 'cgf1', '--pred_file', {str(files[0])!r}, '--gt_files', {str(files[1])!r}])\n"
        "assert 'torch' not in sys.modules\nassert 'matplotlib' not in sys.modules"
    )
    done = run("-c", program, cwd=repository)
    assert done.returncode == 0, done.stderr
