"""SIGTERM and its kin: the step is finished, everything is saved, the exit code says which signal it was."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

from sam3.train.checkpointing import LAST
from sam3.train.stop_signals import StoppedBySignal, StopSignals
from tests.train.micro import SINGLE, assert_equal_weights, make_trainer, overrides, train, weights

EPOCHS = "scratch.max_epochs=2"  # of three steps
AT_STEP = "trainer.callbacks=[{{_target_: tests.train.faults.SignalAtStep, step: {0}, name: {1}}}]"


@pytest.fixture(scope="module")
def uninterrupted(one_class, tmp_path_factory):
    return train(one_class, tmp_path_factory.mktemp("whole"), EPOCHS)


def test_a_signal_is_remembered_and_the_handlers_come_back():
    before, interrupt = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        assert stop.received is stop.agreed() is None
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received is stop.agreed() is signal.SIGUSR1  # somebody waits for this one to be acted on
        os.kill(os.getpid(), signal.SIGUSR2)
        assert stop.received is stop.agreed() is signal.SIGUSR2
        assert signal.getsignal(signal.SIGINT) is interrupt  # ignored where a shell started the tests in the background
    assert signal.getsignal(signal.SIGTERM) is before


def test_work_without_a_state_is_left_at_once():
    with StopSignals() as stop, pytest.raises(StoppedBySignal) as stopped, stop.leaving_at_once():
        os.kill(os.getpid(), signal.SIGUSR2)
        pytest.fail("this is not reached")
    assert stopped.value.code == 128 + signal.SIGUSR2
    with stop, pytest.raises(StoppedBySignal), stop.leaving_at_once():
        pytest.fail("nor is this: the signal came earlier")


def test_what_other_processes_leave_behind_is_no_error_of_ours():
    with StopSignals() as stop, pytest.raises(StoppedBySignal), stop.leaving_at_once():
        stop._arrived.add(signal.SIGTERM)
        raise RuntimeError("connection closed by peer")
    with StopSignals() as stop, pytest.raises(RuntimeError, match="a bug"), stop.leaving_at_once():
        raise RuntimeError("a bug")


def test_other_threads_install_nothing():
    def work():
        with StopSignals():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


# At the end of an epoch and in it; the last two tests are of SIGTERM.
@pytest.mark.parametrize(("step", "name"), [(3, "SIGUSR1"), (4, "SIGUSR2")])
def test_the_state_is_saved_after_the_step_and_training_goes_on_exactly(
    one_class, uninterrupted, tmp_path, sam3_log, step, name
):
    with pytest.raises(StoppedBySignal) as stopped:
        train(one_class, tmp_path, EPOCHS, AT_STEP.format(step, name))
    assert stopped.value.code == 128 + getattr(signal, name)
    assert torch.load(tmp_path / "checkpoints" / LAST, weights_only=True)["progress"]["steps"] == step
    text = (tmp_path / "logs/log.txt").read_text()
    assert f"stopped by {name}, exit code {stopped.value.code}; the same command goes on from" in text
    train(one_class, tmp_path, EPOCHS)
    assert_equal_weights(weights(uninterrupted / "checkpoints" / LAST), weights(tmp_path / "checkpoints" / LAST))


def test_a_validation_is_left_at_once_and_done_again(one_class, uninterrupted, tmp_path, monkeypatch):
    trainer = make_trainer(one_class, tmp_path, EPOCHS)
    measure = trainer.validator.run

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the signal did not end it")

    monkeypatch.setattr(trainer.validator, "run", interrupted)
    with pytest.raises(StoppedBySignal):
        trainer.run()
    assert trainer.progress.pending_validation
    assert measure is not interrupted
    train(one_class, tmp_path, EPOCHS)
    assert_equal_weights(weights(uninterrupted / "checkpoints" / LAST), weights(tmp_path / "checkpoints" / LAST))
    assert len((tmp_path / "logs/val_stats.json").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_whole_process_group_is_asked_to_end(one_class, uninterrupted, tmp_path, repository):
    """As clusters do it: loader workers and their ancestor get the signal, too, and must outlive it."""
    callback = "trainer.callbacks=[{_target_: tests.train.faults.SignalAtStep, step: 2, group: true}]"
    settings = overrides(one_class, tmp_path, EPOCHS, "scratch.num_train_workers=1", callback)
    command = [sys.executable, "sam3/train/train.py", "-c", SINGLE, *settings]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, start_new_session=True, timeout=120)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    train(one_class, tmp_path, EPOCHS)
    assert_equal_weights(weights(uninterrupted / "checkpoints" / LAST), weights(tmp_path / "checkpoints" / LAST))
