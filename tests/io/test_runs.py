"""Finding the checkpoint of the latest run."""

import os
from pathlib import Path

import pytest

from sam3.errors import CheckpointError
from sam3.io.runs import find_run_checkpoint, resolve_checkpoint


def touch(path: Path, time: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.utime(path, (time, time))
    return path


def test_best_is_preferred_to_last(tmp_path):
    last = touch(tmp_path / "run" / "checkpoints" / "last.pt", 20)
    assert find_run_checkpoint(tmp_path / "run") == last
    best = touch(tmp_path / "run" / "checkpoints" / "best.pt", 10)
    for folder in (tmp_path, tmp_path / "run", tmp_path / "run" / "checkpoints"):
        assert find_run_checkpoint(folder) == best


def test_the_latest_of_several_runs_is_taken(tmp_path):
    touch(tmp_path / "new" / "checkpoints" / "last.pt", 30)
    best = touch(tmp_path / "new" / "checkpoints" / "best.pt", 11)
    touch(tmp_path / "old" / "checkpoints" / "best.pt", 12)
    assert find_run_checkpoint(tmp_path) == best


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such folder"):
        find_run_checkpoint(tmp_path / "nowhere")
    file = touch(tmp_path / "run" / "checkpoints" / "checkpoint_10.pt", 1)
    with pytest.raises(CheckpointError, match="is a file; --run takes a run's folder"):
        find_run_checkpoint(file)
    with pytest.raises(CheckpointError, match="it holds .*checkpoint_10.pt: name one with --checkpoint"):
        find_run_checkpoint(tmp_path)


def test_a_checkpoint_is_a_file_a_weight_folder_or_found_in_a_run(tmp_path):
    best = touch(tmp_path / "run" / "checkpoints" / "best.pt", 10)
    assert resolve_checkpoint(best, None) == best
    assert resolve_checkpoint(best.parent, None) == best.parent
    assert resolve_checkpoint(None, tmp_path) == best
    with pytest.raises(CheckpointError, match="there is no such file; --run DIR"):
        resolve_checkpoint(tmp_path / "no.pt", None)
    with pytest.raises(CheckpointError, match=f"folder without weights.*--run {tmp_path / 'run'}"):
        resolve_checkpoint(tmp_path / "run", None)
