"""Processes of one machine: which error is shown, and that nothing is left when one of them fails."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import torch

from sam3.train.checkpointing import LAST
from sam3.train.config_loading import load_config
from sam3.train.launcher import launch
from sam3.train.local_processes import ProcessFailed, _first_failure, _signal_of_all
from tests.train.kill_nine import kill_nine
from tests.train.micro import SINGLE, overrides

TWO = ("launcher.gpus_per_node=2", "scratch.max_epochs=1", "scratch.train_batch_size=1")
CRASH = "trainer.callbacks=[{{_target_: tests.train.faults.Crash, step: 2, rank: 1, how: {}}}]"


@dataclass
class Ended:
    """A process that has ended."""

    exitcode: int


def report(folder, rank, time, text="process failed", is_user_error=False):
    entry = {"rank": rank, "time": time, "text": f"{text} {rank}", "is_user_error": is_user_error}
    (folder / f"{rank}.json").write_text(json.dumps(entry))


def test_the_earliest_error_is_the_one_shown(tmp_path):
    report(tmp_path, 0, 2.5)
    report(tmp_path, 1, 2.4, is_user_error=True)
    failure = _first_failure([Ended(1), Ended(1)], set(), tmp_path)
    assert (failure.text, failure.is_user_error) == ("process failed 1", True)
    assert _first_failure([Ended(0), Ended(0)], set(), tmp_path / "none") is None


def test_a_process_that_died_without_a_word_is_the_cause(tmp_path):
    report(tmp_path, 0, 1.0)
    failure = _first_failure([Ended(1), Ended(-signal.SIGKILL)], set(), tmp_path)
    assert failure.text == "process 1 of 2 was ended by signal SIGKILL; the system does that when memory runs out"
    # Unless this command killed it itself, or it aborted because the other was gone.
    for code, killed in ((-signal.SIGKILL, {1}), (-signal.SIGABRT, set())):
        assert _first_failure([Ended(1), Ended(code)], killed, tmp_path).text == "process failed 0"
    alone = _first_failure([Ended(-signal.SIGABRT), Ended(3)], set(), tmp_path / "none")
    assert alone.text == "process 1 of 2 ended with exit code 3"


def test_processes_that_were_asked_to_end_have_not_failed():
    term, usr2 = signal.SIGTERM, signal.SIGUSR2
    assert _signal_of_all([Ended(128 + term), Ended(128 + term)]) is term
    assert _signal_of_all([Ended(0), Ended(128 + usr2)]) is usr2
    assert _signal_of_all([Ended(-term), Ended(-term)]) is term  # before there was anything to save
    assert _signal_of_all([Ended(1), Ended(128 + term)]) is None
    assert _signal_of_all([Ended(0), Ended(0)]) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        (
            "raise",
            ProcessFailed,
            r"process 1 failed:\nTraceback (.|\n)*in on_step_end(.|\n)*RuntimeError: the roof is on",
        ),
        ("kill", ProcessFailed, "process 1 of 2 was ended by signal SIGKILL"),
    ],
)
def test_a_crash_of_one_process_ends_all_and_shows_its_own_error(one_class, tmp_path, how, error, message):
    loaded = load_config(SINGLE, overrides(one_class, tmp_path, *TWO, CRASH.format(how)))
    with pytest.raises(error, match=message):
        launch(loaded)
    crashed = float((tmp_path / "crashed").read_text())
    assert time.time() - crashed < 60
    assert multiprocessing.active_children() == []
    assert not (tmp_path / "checkpoints/best.pt").exists()


@pytest.mark.slow
def test_torchrun_starts_the_same_run(one_class, tmp_path, repository):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["sam3/train/train.py", "-c", SINGLE, *overrides(one_class, tmp_path, *TWO[1:])]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    last = torch.load(tmp_path / "checkpoints" / LAST, weights_only=True)
    assert last["progress"]["steps"] == 3  # six images, one a step and process
    assert len(last["random"]) == 2
    assert "in each of 2 processes" in done.stdout
    assert len((tmp_path / "logs/train_stats.json").read_text().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")
def test_kill_9_of_two_processes_changes_nothing(tmp_path):
    """Two moments; ``python -m tests.train.kill_nine`` does ten."""
    kill_nine(tmp_path, kills=2, epochs=6, seed=int.from_bytes(os.urandom(3), "big"))


def test_the_plan_knows_of_the_processes(one_class, tmp_path, capsys):
    loaded = load_config(SINGLE, overrides(one_class, tmp_path, *TWO))
    launch(loaded, dry_run=True)
    assert "1 epochs x 3 = 3, batches of 1 images in each of 2 processes" in capsys.readouterr().out
