"""The report of a run: what stands in it, what is said when something is missing, and that it never stops a run."""

import json
import shutil

import pytest

from sam3.errors import DataError
from sam3.eval.confusion import ConfusionMatrix
from sam3.io.files import write_json
from sam3.report import callback
from sam3.report.command import main
from sam3.report.data_summary import summarize
from sam3.report.run_files import read_run
from sam3.report.training_curves import points_of
from sam3.report.training_report import training_report, write_training_report
from sam3.report.validation_pictures import best_and_worst
from tests.report.self_contained import Page
from tests.train.micro import train

REPORT = "logging.report={_target_: sam3.report.callback.ReportCallback, folder: '${launcher.experiment_log_dir}'}"


@pytest.fixture
def run(finished, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(finished, tmp_path / "run")


def text_of(run) -> str:
    return " ".join("".join(Page(training_report(read_run(run))).text).split())


def test_the_command_writes_one_file_that_fetches_nothing(run, tmp_path, capsys):
    assert main([str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    main([str(run), "--output", str(tmp_path / "elsewhere.html")])
    document = (run / "report.html").read_text(encoding="utf-8")
    assert Page(document).references == []
    assert Page((tmp_path / "elsewhere.html").read_text(encoding="utf-8")).tags == Page(document).tags


def test_every_part_is_there(run):
    page = Page(training_report(read_run(run)))
    text = " ".join("".join(page.text).split())
    stats = json.loads((run / "logs/val_stats.json").read_text().splitlines()[-1])
    assert f"{stats['Meters_val/val_coco/segmentation/coco_eval_segm_AP']:.3f}last mask AP" in text
    for wanted in ("2 of 2", "loss_dice", "learning rate", "mask AP by class", "red triangle", "last.pt", "best.pt"):
        assert wanted in text
    assert "数据 & <co>" in text  # the path of the data, escaped in the file
    assert "max_epochs: 2" in text
    assert "x86_64" in text or "arm64" in text or "aarch64" in text
    assert page.tags.count("img") == 3  # the worst; an untrained network has no best ones
    assert page.tags.count("svg") >= 12


def test_confusion_shows_what_each_phrase_fires_on(run):
    matrix = ConfusionMatrix(
        iou_type="segm",
        prompts=["红 <red>", "blue", "general phrases"],
        classes=["红 <red>", "blue"],
        counts=[[123, 4, 5], [0, 77, 0], [0, 0, 9]],
        asked=[10, 11, 12],
        missed=[6, 7],
    )
    write_json(run / "dumps" / "val" / "confusion_matrix.json", matrix.to_dict())
    document = training_report(read_run(run))
    assert Page(document).references == []
    assert "background:rgba(var(--heat),0.93)" in document  # 123 of 132
    text = text_of(run)
    for wanted in ("红 <red>", "background", "general phrases", "123", "images asked"):
        assert wanted in text


def test_metrics_of_phrases_have_charts_and_tiles(run):
    file = run / "logs" / "val_stats.json"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line |= {
            "Meters_val/val_coco/concepts/cgF1_eval_segm_cgF1": 0.625,
            "Meters_val/val_coco/concepts/cgF1_eval_segm_IL_MCC": 0.75,
            "Meters_val/val_coco/concepts/wrong_prompt_rate_general": 0.125,
            "Meters_val/val_coco/concepts/drift": 0.0625,
            "Meters_val/val_coco/another/thing": 0.5,
        }
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    text = text_of(run)
    for wanted in ("0.625last cgF1", "0.750last IL_MCC", "0.125outside phrases that fire", "0.062drift"):
        assert wanted in text
    for title in (
        "is the phrase there?",
        "wrong prompts that fire",
        "drift from the starting weights",
        "another: thing",
    ):
        assert title in text


def test_curves_count_epochs_from_one():
    lines = [{"Trainer/epoch": 0, "a": 1.0}, {"Trainer/epoch": 2, "a": 3.0}, {"Trainer/epoch": 2, "a": None}, {}]
    assert points_of(lines, "a") == [(1, 1.0), (3, None)]


def test_objects_are_counted_as_in_the_annotation_file(run):
    file = read_run(run).setting("data.train.dataset.ann_file")
    content, summary = json.loads(open(file, encoding="utf-8").read()), summarize(file)
    assert summary.images == 6
    assert summary.objects == len(content["annotations"]) == sum(summary.per_class.values())
    assert summary.empty_images == 1
    assert sum(summary.per_image.values()) == 6
    assert sum(summary.sizes.values()) == summary.objects
    assert summary.widths == (48, 48, 48)


def test_perfect_answers_are_the_best_images_and_empty_ones_the_worst(run):
    validation = read_run(run).validation
    truth = validation.truth
    first, second = truth["images"][0]["id"], truth["images"][1]["id"]
    answers = [{**entry, "score": 0.9} for entry in truth["annotations"] if entry["image_id"] != second]
    validation.records[:] = answers
    best, worst, counts = best_and_worst(validation)
    assert worst == [second]
    assert first in best
    assert counts[first].quality == pytest.approx(1.0)
    assert counts[second].misses == sum(entry["image_id"] == second for entry in truth["annotations"])
    assert not set(best) & set(worst)


@pytest.mark.parametrize(
    ("removed", "sentence"),
    [
        ("machine.json", "machine.json is missing"),
        ("dumps", "dumps/val holds no predictions"),
        ("checkpoints", "checkpoints/ holds no file yet"),
        ("config_resolved.yaml", "config_resolved.yaml is missing"),
        ("logs", "No epoch has finished yet"),
    ],
)
def test_what_is_missing_is_named_and_the_rest_is_shown(run, removed, sentence):
    path = run / removed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert sentence in text_of(run)


def test_data_that_moved_away_is_named(run):
    file = run / "config_resolved.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("数据", "moved"), encoding="utf-8")
    text = text_of(run)
    assert "Classes and images cannot be shown: cannot read" in text
    assert "Training data: cannot read" in text
    assert "mask AP" in text


def test_images_that_moved_away_are_named(run):
    validation = read_run(run).validation
    file = run / "config_resolved.yaml"
    old = str(validation.img_folder)
    file.write_text(
        file.read_text(encoding="utf-8").replace(f"img_folder: {old}", "img_folder: /gone"), encoding="utf-8"
    )
    assert "The images cannot be shown" in text_of(run)


def test_a_line_cut_off_by_a_crash_is_left_out(run):
    with open(run / "logs" / "train_stats.json", "a") as file:
        file.write('{"Trainer/epoch": 2, "Losses/train_all_lo')
    assert "2 of 2" in text_of(run)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="is not the folder of a training run"):
        write_training_report(tmp_path)


def test_a_run_survives_its_report(one_class, tmp_path, monkeypatch, sam3_log):
    def broken(folder):
        raise RuntimeError("no space left")

    monkeypatch.setattr(callback, "write_training_report", broken)
    out = train(one_class, tmp_path, REPORT, "scratch.max_epochs=1")
    assert (out / "checkpoints" / "last.pt").is_file()
    assert not (out / "report.html").exists()
    assert "the report was not written: RuntimeError: no space left" in sam3_log.text


def test_no_report_on_request(finished):
    assert not (finished / "report.html").exists()  # the micro runs say logging.report=null
