"""Exact resume: an interrupted run ends with the weights of an uninterrupted one, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from sam3.train.checkpointing import LAST
from tests.train.micro import SINGLE, assert_equal_weights, overrides, train, weights

EPOCHS = "scratch.max_epochs=3"  # of three steps
SAVING = "checkpoint.save_every_steps=1"


@pytest.fixture(scope="module")
def uninterrupted(one_class, tmp_path_factory):
    return train(one_class, tmp_path_factory.mktemp("whole"), EPOCHS)


def without_times(path):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    of_the_machine = ("Time", "Trainer/seconds", "Trainer/images_per_second", "Trainer/memory_gb")
    return [
        {key: value for key, value in line.items() if not any(name in key for name in of_the_machine)} for line in lines
    ]


def assert_same_outcome(first, second):
    assert_equal_weights(weights(first / "checkpoints" / LAST), weights(second / "checkpoints" / LAST))
    one, two = (torch.load(out / "checkpoints" / LAST, weights_only=True) for out in (first, second))
    for index, state in one["optimizer"]["state"].items():
        assert all(torch.equal(value, two["optimizer"]["state"][index][name]) for name, value in state.items())
    for name in ("epoch", "step_in_epoch", "steps", "steps_val", "best_metric", "best_epoch", "last_metric"):
        assert one["progress"][name] == two["progress"][name], name
    for stats in ("train_stats.json", "val_stats.json", "best_stats.json"):
        assert without_times(first / "logs" / stats) == without_times(second / "logs" / stats), stats


def test_crashes_at_different_places(one_class, uninterrupted, tmp_path):
    crashes = [  # where, with what saved, at which saved step
        (("step", 2), [SAVING], 1),
        (("step", 3), [], 1),  # not saved: the epoch's rest is done again
        (("epoch", 1), [], 1),  # the epoch is in the log, but not in the rolling file
        (("validation", 1), [], 3),  # so is the validation
        (("step", 5), [SAVING], 4),
    ]
    for (at, number), saving, saved in crashes:
        stop = f"trainer.callbacks=[{{_target_: tests.train.faults.Stop, at: {at}, number: {number}}}]"
        with pytest.raises(KeyboardInterrupt):
            train(one_class, tmp_path, EPOCHS, *saving, stop)
        assert torch.load(tmp_path / "checkpoints" / LAST, weights_only=True)["progress"]["steps"] == saved
    train(one_class, tmp_path, EPOCHS, SAVING)
    assert_same_outcome(uninterrupted, tmp_path)


def test_a_finished_run_has_nothing_left_to_do(one_class, uninterrupted, tmp_path_factory):
    before = weights(uninterrupted / "checkpoints" / LAST)
    train(one_class, uninterrupted, EPOCHS)
    assert_equal_weights(before, weights(uninterrupted / "checkpoints" / LAST))
    assert len((uninterrupted / "logs/train_stats.json").read_text().splitlines()) == 3
    assert len((uninterrupted / "logs/val_stats.json").read_text().splitlines()) == 3


@pytest.mark.slow
def test_kill_9_at_random_moments(one_class, uninterrupted, tmp_path, repository):
    """The command itself, killed twice: once right after a random step, once at a random moment."""
    rng = random.Random(os.urandom(8))
    step = rng.randint(1, 6)
    kill = f"trainer.callbacks=[{{_target_: tests.train.faults.KillAtStep, step: {step}}}]"
    killed = _start(repository, one_class, tmp_path, kill)
    assert killed.wait(timeout=120) == -signal.SIGKILL

    running = _start(repository, one_class, tmp_path)
    _wait_for(lambda: "resumed" in (tmp_path / "logs/log.txt").read_text(encoding="utf-8"), running)
    time.sleep(rng.uniform(0, 0.5))
    running.kill()
    running.wait(timeout=60)

    assert _start(repository, one_class, tmp_path).wait(timeout=120) == 0
    assert_same_outcome(uninterrupted, tmp_path)


def _start(repository, data, out, *extra):
    command = [sys.executable, "sam3/train/train.py", "-c", SINGLE, *overrides(data, out, EPOCHS, SAVING, *extra)]
    return subprocess.Popen(command, cwd=repository, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the run did not get there"
        if process.poll() is not None:
            return
        time.sleep(0.02)
