"""The command: flags, exit codes, what it prints, and that it runs without torch and without installation."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sam3.data.labelme import main
from sam3.data.labelme_report import training_command
from sam3.errors import DataError, run_command
from tests.data.labelme_folder import picture, shape, write_labelme_folder, write_pair

SQUARE = [(2, 2), (9, 2), (9, 9), (2, 9)]

FLAGS = (
    "--labelme_dir --output_dir --class_name --single_class --train_split --seed --group_by --skip_unsupported "
    "--skip_bad --include_unlabelled --overwrite"
).split()


def script(repository: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run ``labelme_to_coco.py`` in an isolated interpreter: no current folder, no environment on the path."""
    command = [sys.executable, "-I", repository / "labelme_to_coco.py", *arguments]
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, encoding="utf-8")


def test_the_documented_command(repository, folder, tmp_path):
    done = script(repository, "--labelme_dir", "in", "--output_dir", "out", "--class_name", "cat", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/train/annotations.json").is_file()
    assert done.stdout.splitlines()[-1] == (
        "  python sam3/train/train.py -c sam3/train/conf/train_config_single_class.yaml "
        "paths.dataset_root=out paths.experiment_log_dir=runs/out dataset.class_name=cat"
    )
    assert "writing images: 100%" in done.stderr  # the progress bar


def test_a_bad_file_ends_in_exit_code_2(repository, folder, tmp_path):
    (folder / "broken.json").write_text("{")
    done = script(repository, "--labelme_dir", "in", "--output_dir", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "broken.json: not valid JSON" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    done = script(repository, "--labelme_dir", "in", "--output_dir", "out", "--skip_bad", cwd=tmp_path)
    assert done.returncode == 0
    assert "bad files left out: 1\n  broken.json: not valid JSON" in done.stdout


def test_nothing_but_the_four_packages_is_loaded(repository, folder, tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {str(repository)!r})\n"
        f"from sam3.data.labelme import main\n"
        f"main(['--labelme_dir', {str(folder)!r}, '--output_dir', {str(tmp_path / 'out')!r}])\n"
        "print('torch' in sys.modules, 'scipy' in sys.modules, 'labelme' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False False False", done.stderr


def test_the_script_uses_the_checkout_that_it_lies_in(repository, tmp_path):
    """In a checkout without installation, ``sam3`` must be found beside the script."""
    checkout = tmp_path / "checkout"
    shutil.copytree(repository / "sam3", checkout / "sam3", ignore=shutil.ignore_patterns("assets", "__pycache__"))
    shutil.copy(repository / "labelme_to_coco.py", checkout)
    program = (
        f"import runpy; runpy.run_path({str(checkout / 'labelme_to_coco.py')!r}); import sam3; print(sam3.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == str(checkout / "sam3" / "__init__.py"), done.stderr


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"  {flag} " in text or f"  {flag}\n" in text for flag in FLAGS)


@pytest.mark.parametrize("arguments", [["--labelme_dir", "x"], ["--labelme_dir", "x", "--output_dir", "y", "--what"]])
def test_wrong_usage_ends_in_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_dashes_and_underscores_are_one(folder, tmp_path, capsys):
    arguments = ["--labelme-dir", str(folder), f"--output-dir={tmp_path}/a--b-c", "--train-split=0.5"]
    assert run_command(main, [*arguments, "--class-name", "a_b-c"]) == 2
    assert "class_name 'a_b-c'" in capsys.readouterr().err
    assert run_command(main, [*arguments, "--class-name", "cat", "--single-class", "--skip-bad"]) == 0
    assert (tmp_path / "a--b-c/val/annotations.json").is_file()


def test_class_names_are_repeated(folder, tmp_path, capsys):
    base = ["--labelme_dir", str(folder), "--output_dir", str(tmp_path / "out")]
    assert main([*base, "--class_name", "dog", "--class_name", "cat"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]]
    assert rows == ["dog", "cat"]
    with pytest.raises(SystemExit) as caught:
        main([*base, "--class_name", "red", "cat"])
    assert caught.value.code == 2
    assert "a value of several words needs quotes" in capsys.readouterr().err


def test_the_summary(tmp_path, capsys):
    folder = write_labelme_folder(tmp_path / "in", num_images=8, num_negatives=2)
    shapes = [shape("cat", SQUARE, group_id=1), shape("cat", np.add(SQUARE, 20).tolist(), group_id=1)]
    shapes += [shape("__ignore__", SQUARE), shape("eye", SQUARE[:1], "point"), shape("\u732b", SQUARE)]
    write_pair(folder, "odd.png", shapes)
    write_pair(folder, "alone.png", []).unlink()
    assert main(["--labelme_dir", str(folder), "--output_dir", str(tmp_path / "out"), "--skip_unsupported"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:6]] == [
        "class objects shapes images train images val images train objects val objects".split(),
        ["cat", "9", "10", "9", "8", "1", "8", "1"],
        ["dog", "8", "8", "8", "7", "1", "7", "1"],
        ["\u732b", "1", "1", "1", "1", "0", "1", "0"],
        ["(no", "object)", "0", "0", "2", "1", "1", "0", "0"],
        ["all", "18", "19", "11", "9", "2", "16", "2"],
    ]
    text = "\n".join(lines)
    assert "labels left out: __ignore__ (1)\n" in text
    assert "shapes of unsupported types left out: point 'eye' (1)\n" in text
    assert "images without a JSON file left out: alone.png; " in text
    assert "warning: classes with objects in only one of train and val: \u732b" in text


def test_an_empty_side_is_warned_of_and_no_command_follows(folder, tmp_path, capsys):
    main(["--labelme_dir", str(folder), "--output_dir", str(tmp_path / "out"), "--train_split", "1"])
    text = capsys.readouterr().out
    assert "warning: val has no images" in text
    assert "train.py" not in text


def test_copies_on_both_sides_are_warned_of(tmp_path, capsys):
    for index in range(10):
        write_pair(tmp_path / "in", f"{index:02}.png", [shape("cat", SQUARE)], pixels=picture(seed=index // 2))
    main(["--labelme_dir", str(tmp_path / "in"), "--output_dir", str(tmp_path / "out"), "--train_split", "0.5"])
    assert "warning: copies of one image in both train and val" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("class_name", "expected"),
    [
        ("cat", "dataset.class_name=cat"),
        ("red circle", "'dataset.class_name=red circle'"),
        ("true", "'dataset.class_name=\"true\"'"),
        ("a,b", "'dataset.class_name=\"a,b\"'"),
        ("7", "'dataset.class_name=\"7\"'"),
        ("\u732b", "'dataset.class_name=\"\u732b\"'"),
    ],
)
def test_the_next_command_is_quoted_for_shell_and_configuration(class_name, expected, tmp_path):
    command = training_command(tmp_path / "my data", [class_name])
    assert command.endswith(expected)
    assert f"'paths.dataset_root={tmp_path}/my data' 'paths.experiment_log_dir=runs/my data'" in command


@pytest.mark.parametrize(
    "class_name", ["cat", "red circle", "true", "a,b", "7", "\u732b", "cat's", '5" pipe', "x=y", "[a]", "a:b"]
)
def test_the_configuration_reads_the_class_name_back(class_name, tmp_path):
    parser = pytest.importorskip("hydra.core.override_parser.overrides_parser").OverridesParser.create()
    word = shlex.split(training_command(tmp_path, [class_name]))[-1]
    value = parser.parse_override(word).value()
    assert str(value) == class_name


def test_user_errors_are_user_errors(folder, tmp_path):
    with pytest.raises(DataError, match="class_name must not be empty"):
        main(["--labelme_dir", str(folder), "--output_dir", str(tmp_path / "out"), "--class_name", ""])
