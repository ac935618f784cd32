"""The command's arguments, report and refusals."""

import subprocess
import sys
from pathlib import Path

import pytest

from sam3.errors import CheckpointError, run_command
from sam3.export.command import default_target, main
from tests.small_checkpoint import small_model


def test_the_command_reports_and_names_its_result(trained, capsys):
    assert main(["--run", str(trained.parents[1])]) == 0
    output = capsys.readouterr().out
    target = trained.with_name("best_fp16.pt")
    assert target.exists()
    assert "83% smaller" in output
    assert f"{len(small_model().state_dict())} / {len(small_model().state_dict())} tensors" in output
    assert "'red circle', 'blue square'; 56 px; threshold 0.001" in output
    assert "bound 0.01: ok" in output

    with pytest.raises(CheckpointError, match=r"best_fp16\.pt exists; pass --overwrite"):
        main([str(trained)])
    assert main([str(trained), "--overwrite", "--no-sample"]) == 0
    assert "sample" not in capsys.readouterr().out


def test_too_large_a_difference_leaves_nothing_behind(trained, tmp_path, capsys):
    arguments = [str(trained), "--dtype", "bf16", "--bound", "1e-9", "-o", str(tmp_path / "out.pt")]
    with pytest.raises(CheckpointError, match="outputs change too much .scores differ by .*bound 1e-09"):
        main(arguments)
    assert list(tmp_path.iterdir()) == []
    assert main([*arguments, "--force"]) == 0
    assert "EXCEEDED" in capsys.readouterr().out
    assert (tmp_path / "out.pt").exists()


def test_default_names_tell_what_was_done():
    assert default_target(Path("a/best.pt"), "bf16", "safetensors") == Path("a/best_bf16.safetensors")
    assert default_target(Path("a/best_fp16.pt"), "bf16", "pt") == Path("a/best_bf16.pt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtype", "fp16"], "give either a CHECKPOINT or --run DIR"),
        (["a.pt", "--run", "b"], "give either a CHECKPOINT or --run DIR"),
        (["a.pt", "--bound", "-1"], "not negative"),
        (["a.pt", "-o", "out.bin"], "must end in .pt or .safetensors"),
        (["a.pt", "-o", "out.pt", "--format", "safetensors"], "contradict"),
    ],
)
def test_contradicting_arguments_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_script_runs_from_any_folder_and_explains_itself(repository, tmp_path):
    script = str(repository / "tools" / "compress_model.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    assert "compress_model.py runs/holes/checkpoints/best.pt" in done.stdout


def test_a_missing_checkpoint_is_a_user_error(tmp_path, capsys):
    assert run_command(main, [str(tmp_path / "no.pt")]) == 2
    assert capsys.readouterr().err.startswith(f"error: checkpoint {tmp_path / 'no.pt'}: there is no such file")
