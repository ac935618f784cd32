"""The programs behind the README's numbers still run, in small; their times are not judged here."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["forward_vs_transformers.py", "--presets", "tiny", "--repeats", "1"], "in ten calls"),
        (["mask_memory.py", "--detections", "3", "--height", "60", "--width", "80", "--side", "16"], "unchunked"),
        (["losses.py", "--pairs", "2"], "12544 points"),
        (
            "train_step.py --preset tiny --steps 1 --warmup 1 --images 12 --batch 2 --dtype bf16 --tune lora".split(),
            "loader with 2 workers",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_benchmark_runs(arguments, expected, repository):
    if arguments[0].startswith("forward"):
        pytest.importorskip("transformers")
    done = subprocess.run(
        [sys.executable, str(repository / "benchmarks" / arguments[0]), *arguments[1:]],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_video_evaluation_benchmarks_run(repository, tmp_path):
    folder, environment = tmp_path / "data", os.environ | {"PYTHONPATH": str(repository)}

    def run(script, *arguments):
        command = [sys.executable, str(repository / "benchmarks" / "eval" / script), str(folder), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("video_data.py", "--videos", "2", "--frames", "4", "--objects", "3", "--categories", "50")
    assert float(run("video.py", "--case", "pHOTA, boxes and masks")) > 0
    assert float(run("video.py", "--case", "TETA, masks", "--bound")) > 0
    assert "peak" in run("video_memory.py")


def test_evaluation_is_measured_beside_its_bound(repository, tmp_path):
    program = repository / "benchmarks" / "eval" / "image.py"
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "data"), "--runs", "1", "--size", "5", "20", "3"],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cgF1, ") == 4
    assert "results of one process and of two: identical" in done.stdout
