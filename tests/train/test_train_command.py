"""The command line: flags, exit codes, and a start from a checkout without installation."""

import subprocess
import sys

import pytest

from sam3.errors import ConfigError, UserError, run_command
from sam3.train.train import main
from tests.train.micro import SINGLE, overrides


def test_the_readme_command_runs_from_a_bare_checkout(repository, one_class, tmp_path):
    """-I ignores the installed package's path entries of PYTHONPATH; the script finds the checkout by itself."""
    arguments = overrides(one_class, tmp_path / "run")
    script = "sam3/train/train.py"
    probe = (
        "import runpy, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, 'sam3/train'); "
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", probe, script, "-c", "sam3/train/conf/train_config_single_class.yaml"]
    done = subprocess.run([*command, *arguments, "--dry-run"], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 images, 3 queries" in done.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_nodes", "3"], "launcher.num_nodes is 3, .* run it under torchrun on every machine"),
        (["launcher.gpus_per_node=0"], "launcher.gpus_per_node is 0; expected 1 or more"),
    ],
)
def test_processes_that_cannot_be_started_are_refused_in_one_sentence(one_class, tmp_path, flags, message):
    with pytest.raises(ConfigError, match=message):
        main(["-c", SINGLE, *overrides(one_class, tmp_path), *flags])


def test_flags_win_over_keys_and_keys_may_stand_anywhere(one_class, tmp_path, capsys):
    arguments = ["-c", SINGLE, "scratch.max_epochs=2", "--num-gpus", "1", *overrides(one_class, tmp_path / "run")]
    assert main([*arguments, "launcher.gpus_per_node=3", "--dry-run"]) == 0
    assert "2 epochs x 3 = 6" in capsys.readouterr().out


def test_exit_codes(one_class, tmp_path, capsys):
    assert run_command(main, ["-c", "no_such_file"]) == 2
    assert capsys.readouterr().err.startswith("error: -c no_such_file: no such configuration")
    with pytest.raises(SystemExit) as finished:
        main([])
    assert finished.value.code == 0
    assert "key=value" in capsys.readouterr().out
    with pytest.raises(SystemExit) as finished:
        main(["-c", SINGLE, "--dry-rum"])
    assert finished.value.code == 2
    assert "did you mean --dry-run" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sam3.train.config_loading", None)
    with pytest.raises(ModuleNotFoundError):  # a defect of ours keeps its traceback
        main(["-c", SINGLE])
    monkeypatch.delitem(sys.modules, "sam3.train.config_loading")
    monkeypatch.setitem(sys.modules, "omegaconf", None)
    with pytest.raises(UserError, match=r"needs the package omegaconf: pip install -e '.\[train\]'"):
        main(["-c", SINGLE])
