"""The command from arguments to files, on a small random model."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from sam3.errors import CheckpointError, ConfigError, DataError, run_command
from sam3.io.checkpoint import ModelCard, read_checkpoint, save_weights
from sam3.predict.arguments import prompts_of
from sam3.predict.command import main, parse_arguments
from tests.predict.conftest import save_picture
from tests.small_checkpoint import save_small_checkpoint, small_model


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    save_small_checkpoint(folder / "holes" / "checkpoints" / "best.pt")
    return folder


@pytest.fixture(scope="module")
def checkpoint(run_dir) -> str:
    return str(run_dir / "holes" / "checkpoints" / "best.pt")


def test_a_run_from_start_to_end(run_dir, photos, tmp_path, capsys):
    (photos / "bad.png").write_text("no picture")
    arguments = ["--run", str(run_dir), "--input", str(photos), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert "4 images, phrases 'red circle', 'blue square', score > 0.001" in output
    assert "3 processed, 0 skipped (finished earlier), 1 failed" in output
    assert "warning: not processed: image" in output
    assert "bad.png" in output

    images = json.loads((tmp_path / "out" / "coco_images.json").read_text())
    records = json.loads((tmp_path / "out" / "coco_predictions.json").read_text())
    assert [image["file_name"] for image in images["images"]] == ["a.png", "b.jpg", "c.png"]
    assert [category["name"] for category in images["categories"]] == ["red circle", "blue square"]
    assert {record["category_id"] for record in records} == {1, 2}
    assert all(record["score"] > 0.001 and record["segmentation"]["size"] == [30, 40] for record in records)
    first = json.loads((tmp_path / "out" / "predictions" / "a.json").read_text())
    assert [found["label"] for found in first["objects"]] == ["red circle"] * 6 + ["blue square"] * 6

    assert main(arguments) == 0
    assert "0 processed, 3 skipped (finished earlier), 1 failed" in capsys.readouterr().out
    assert main([*arguments, "--strict"]) == 1


def test_changed_settings_are_refused_until_overwrite(checkpoint, photos, tmp_path):
    arguments = ["--checkpoint", checkpoint, "--input", str(photos), "--output", str(tmp_path / "out"), "--quiet"]
    assert main([*arguments, "--prompt", "cat"]) == 0
    with pytest.raises(DataError, match="prompts: .*cat.* -> .*dog.*--overwrite"):
        main([*arguments, "--prompt", "dog"])
    assert main([*arguments, "--prompt", "dog", "--overwrite"]) == 0
    records = json.loads((tmp_path / "out" / "coco_images.json").read_text())
    assert records["categories"] == [{"id": 1, "name": "dog"}]


def test_only_the_files_wanted_are_written(checkpoint, photos, tmp_path):
    arguments = ["--checkpoint", checkpoint, "--input", str(photos / "a.png"), "--quiet", "--output"]
    assert main([*arguments, str(tmp_path / "one"), "--write", "labelme"]) == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"labelme", "predictions", "run.json"}
    assert main([*arguments, str(tmp_path / "two"), "--no-overlay", "--no_masks"]) == 0
    assert {path.name for path in (tmp_path / "two").iterdir()} == {
        "coco_images.json",
        "coco_predictions.json",
        "labelme",
        "predictions",
        "run.json",
    }


def test_nothing_found_still_writes_every_file(checkpoint, photos, tmp_path, capsys):
    arguments = ["--checkpoint", checkpoint, "--input", str(photos), "--output", str(tmp_path / "out"), "--quiet"]
    assert main([*arguments, "--score-threshold", "0.999"]) == 0
    output = capsys.readouterr().out
    assert "0 objects" in output
    assert "would a lower --score-threshold do?" in output
    assert json.loads((tmp_path / "out" / "coco_predictions.json").read_text()) == []
    assert json.loads((tmp_path / "out" / "labelme" / "a.json").read_text())["shapes"] == []
    assert (tmp_path / "out" / "overlays" / "a.jpg").exists()


def test_half_precision_files_are_cast_up(checkpoint, photos, tmp_path):
    read = read_checkpoint(checkpoint)
    save_weights(tmp_path / "half.safetensors", read.state_dict, read.card, dtype="fp16")
    rest = ["--input", str(photos / "a.png"), "--quiet", "--device", "cpu", "--output"]
    assert main(["--checkpoint", checkpoint, *rest, str(tmp_path / "full")]) == 0
    assert main(["--checkpoint", str(tmp_path / "half.safetensors"), *rest, str(tmp_path / "half")]) == 0
    scores = [
        [found["score"] for found in json.loads((tmp_path / name / "predictions" / "a.json").read_text())["objects"]]
        for name in ("full", "half")
    ]
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)
    assert json.loads((tmp_path / "half" / "run.json").read_text())["settings"]["dtype"] == "fp32"


def test_a_bare_weight_file_needs_a_phrase_and_its_shape(photos, tmp_path, monkeypatch):
    from sam3.config import PRESETS
    from tests.small_checkpoint import small_config

    monkeypatch.setitem(PRESETS, "small", small_config)
    torch.save(small_model().state_dict(), tmp_path / "bare.pt")
    arguments = ["--checkpoint", str(tmp_path / "bare.pt"), "--config", "small", "--input", str(photos), "--quiet"]
    with pytest.raises(ConfigError, match="carries no phrases"):
        main([*arguments, "--output", str(tmp_path / "out")])
    assert main([*arguments, "--output", str(tmp_path / "out"), "--prompt", "cat"]) == 0


def test_no_image_that_can_be_processed_is_exit_code_2(checkpoint, tmp_path, capsys):
    (tmp_path / "bad.png").write_text("no picture")
    arguments = ["--checkpoint", checkpoint, "--input", str(tmp_path / "bad.png"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--quiet"]) == 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (["--score-threshold", "1.5"], ConfigError, "scores lie between 0 and 1"),
        (["--max-detections", "0"], ConfigError, "positive number, or -1"),
        (["--prompt", " "], ConfigError, "--prompt is empty"),
        (["--device", "cpus"], ConfigError, "--device: device 'cpus' cannot be used here"),
        (["--polygon-tolerance", "-1"], ConfigError, "0 .exact. or a positive number"),
        (["--config", "tinny"], ConfigError, "unknown model preset 'tinny'"),
        (["--workers", "0"], ConfigError, "--workers 0"),
        (["--resolution", "0"], ConfigError, "--resolution 0"),
        (["--input", "nowhere"], DataError, "no such folder or file"),
    ],
)
def test_arguments_that_cannot_be_used(checkpoint, photos, tmp_path, change, error, message):
    arguments = ["--checkpoint", checkpoint, "--input", str(photos), "--output", str(tmp_path / "out"), *change]
    with pytest.raises(error, match=message):
        main(arguments)
    assert not (tmp_path / "out").exists()


def test_results_do_not_go_among_the_inputs(checkpoint, photos):
    with pytest.raises(ConfigError, match="is also an --input"):
        main(["--checkpoint", checkpoint, "--input", str(photos), "--output", str(photos / "." / "")])


def test_ctrl_c_keeps_what_is_finished(checkpoint, photos, tmp_path, monkeypatch, capsys):
    def interrupted(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("sam3.predict.folder.predict_images", interrupted)
    arguments = ["--checkpoint", checkpoint, "--input", str(photos), "--output", str(tmp_path / "out")]
    assert main(arguments) == 130
    assert "finished images are kept" in capsys.readouterr().err


def test_checkpoints_that_are_not_there(photos, tmp_path):
    rest = ["--input", str(photos), "--output", str(tmp_path / "out")]
    with pytest.raises(CheckpointError, match="no such file"):
        main(["--checkpoint", str(tmp_path / "no.pt"), *rest])
    with pytest.raises(CheckpointError, match=r"no best\.pt or last\.pt"):
        main(["--run", str(tmp_path), *rest])


def test_underscores_and_repeated_options_are_accepted():
    arguments = parse_arguments(
        [
            "--input",
            "a",
            "--input",
            "b",
            "c",
            "--output",
            "o",
            "--prompt",
            "x y",
            "--prompt",
            "z",
            "--score_threshold=0.2",
        ]
    )
    assert arguments.input == ["a", "b", "c"]
    assert arguments.prompt == ["x y", "z"]
    assert arguments.score_threshold == 0.2


@pytest.mark.parametrize(
    ("given", "card", "expected"),
    [
        (["a", " b ", "a"], None, {"a": "a", "b": "b"}),
        (None, ModelCard(class_names=["Hole"], prompts=["small hole"]), {"Hole": "small hole"}),
        (None, ModelCard(class_names=["Hole"]), {"Hole": "Hole"}),
        (None, ModelCard(prompts=["x", "y"]), {"x": "x", "y": "y"}),
    ],
)
def test_phrases_come_from_the_command_line_or_the_checkpoint(given, card, expected):
    assert prompts_of(given, card, "c.pt") == expected


def test_phrases_that_the_checkpoint_does_not_know_are_pointed_out(checkpoint, photos, tmp_path, capsys):
    arguments = ["--checkpoint", checkpoint, "--input", str(photos / "a.png"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--prompt", "circle", "--quiet"]) == 0
    assert (
        "note: the checkpoint was fine-tuned on 'red circle', 'blue square', not on 'circle'" in capsys.readouterr().out
    )


def test_the_script_runs_from_any_folder_and_explains_itself(repository, tmp_path):
    script = str(repository / "tools" / "batch_inference.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.count("\n  batch_inference.py --") == 2  # two examples


def test_user_errors_are_exit_code_2(checkpoint, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = ["--checkpoint", checkpoint, "--input", str(empty), "--output", str(tmp_path / "out")]
    assert run_command(main, arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: --input {empty}: no images")


def test_pictures_of_every_mode_are_processed(checkpoint, tmp_path):
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "I;16"):
        suffix = "tif" if mode == "CMYK" else "png"
        path = tmp_path / "photos" / f"{mode.replace(';', '')}.{suffix}"
        save_picture(path)
        Image.new(mode, (20, 10)).save(path)
    arguments = ["--checkpoint", checkpoint, "--input", str(tmp_path / "photos"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--quiet", "--strict"]) == 0


def test_the_guide_names_every_option_and_no_other(repository, capsys):
    guide = (repository / "tools" / "BATCH_INFERENCE_README.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"--[a-z][a-z-]+", guide.split("## Small weight files")[0]))
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert len(options) > 15
    assert documented == options
