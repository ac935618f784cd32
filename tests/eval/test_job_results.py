"""The table of many runs, from folders made up."""

import json
from pathlib import Path

import pytest

from sam3.errors import DataError
from sam3.eval.job_results import main_odinw, main_roboflow, read_jobs, without_seed

KEY = "Meters_val/val_coco/detection/coco_eval_bbox_AP"


def write_run(folder: Path, *values: float, where: float = 1.0) -> None:
    (folder / "logs").mkdir(parents=True)
    lines = [
        {KEY: value, f"{KEY}_50": 0.9, "Trainer/epoch": epoch, "Trainer/where": where * (epoch + 1) / len(values)}
        for epoch, value in enumerate(values)
    ]
    (folder / "logs" / "val_stats.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "runs" / "aerial", 0.5, 0.4)
    write_run(tmp_path / "runs" / "bottles", 0.2)
    write_run(tmp_path / "runs" / "cells", 0.1, 0.3, where=0.5)
    (tmp_path / "runs" / "dogs" / "logs").mkdir(parents=True)
    (tmp_path / "data" / "elks").mkdir(parents=True)
    return tmp_path


def test_every_run_is_named_and_only_finished_ones_count(runs, capsys):
    (runs / "groups.json").write_text(json.dumps({"aerial": "air", "bottles": "kitchen"}))
    arguments = ["--res_dir", str(runs / "runs"), "--data", str(runs / "data"), "--groups", str(runs / "groups.json")]
    assert main_roboflow(arguments) == 1
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [
        ["aerial", "40.0", "2", ""],
        ["bottles", "20.0", "1", ""],
        ["cells", "30.0", "2", "unfinished: at 50% of its epochs"],
        ["dogs", "", "", "failed: no validation was written"],
        ["elks", "", "", "missing: never started"],
        ["**air**", "40.0", "", "mean of 1"],
        ["**kitchen**", "20.0", "", "mean of 1"],
        ["**all**", "30.0", "", "mean of 2 of 5 runs"],
    ]


def test_the_best_validation_on_request(runs):
    assert read_jobs(runs / "runs", best=True)[0].value == 0.5
    assert read_jobs(runs / "runs", metric="coco_eval_bbox_AP_50")[0].value == 0.9


def test_seeds_of_a_data_set_are_averaged(tmp_path, capsys):
    for seed, value in ((300, 0.3), (30, 0.4), (3, 0.5)):
        write_run(tmp_path / "runs" / f"pets_seed{seed}", value)
    (tmp_path / "data" / "pets").mkdir(parents=True)
    arguments = ["--res_dir", str(tmp_path / "runs"), "--data", str(tmp_path / "data"), "--seeds", "300", "30", "3"]
    assert main_odinw(arguments) == 0
    assert "| **pets** | 40.0 | | mean of 3 |" in capsys.readouterr().out
    assert without_seed("pets_seed30") == "pets"


def test_csv_and_markdown_files(runs):
    assert main_roboflow(["--res_dir", str(runs / "runs"), "--output", str(runs / "out.csv")]) == 1
    lines = (runs / "out.csv").read_text().splitlines()
    assert lines[:2] == ["run,coco_eval_bbox_AP,epoch,problem", "aerial,0.4,2,"]
    assert main_roboflow(["--res_dir", str(runs / "runs"), "--output", str(runs / "out.md")]) == 1
    assert (runs / "out.md").read_text().startswith("| run |")


def test_a_validation_alone_counts_and_an_empty_truth_does_not(tmp_path):
    write_run(tmp_path / "only", 0.7, where=0.0)
    write_run(tmp_path / "empty", -1.0)
    empty, only = read_jobs(tmp_path)
    assert (only.value, only.problem) == (0.7, None)
    assert empty.problem == "no objects to find"


def test_damage_is_named(tmp_path):
    write_run(tmp_path / "a", 0.5)
    (tmp_path / "a" / "logs" / "val_stats.json").write_text('{"x": 1}\n{"half')
    (job,) = read_jobs(tmp_path)
    assert job.problem.startswith("failed: ")
    with pytest.raises(DataError, match="no folder"):
        read_jobs(tmp_path / "nowhere")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="holds no run folder"):
        read_jobs(tmp_path / "b")
