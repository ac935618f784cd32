"""Runs that defend themselves: a real disk that fills up, images that cannot be read. The rest is in the tests of
``stop_signals``, ``finite_guard`` (test_trainer.py), ``batch_dumps`` and ``resuming``."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from sam3.errors import CheckpointError, run_command
from sam3.train import distributed
from sam3.train.checkpointing import LAST
from sam3.train.stop_signals import StoppedBySignal
from sam3.train.train import main
from tests.train.faults import SignalAtStep
from tests.train.micro import SINGLE, assert_equal_weights, make_trainer, overrides, train, weights
from tests.train.pair import run_pair

EVERY_STEP = "checkpoint.save_every_steps=1"
EPOCHS = "scratch.max_epochs=2"
LEAN = ["checkpoint.save_model_only=true", "trainer.validation.compute_loss=false", "scratch.train_batch_size=1"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 32 MiB, enough for some five checkpoints of the micro run."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here (that needs root)")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def full_between(first, last, leave):
    """The disk is full when the steps ``first`` .. ``last`` - 1 are to be saved; an epoch has six."""
    at = f"first: {first}, last: {last}, leave: {leave}"
    return f"trainer.callbacks=[{{_target_: tests.train.faults.FullDisk, {at}}}]"


@pytest.fixture(scope="module")
def uninterrupted(one_class, tmp_path_factory):
    out = train(one_class, tmp_path_factory.mktemp("whole"), EPOCHS, *LEAN)
    return weights(out / "checkpoints" / LAST)


@pytest.mark.parametrize("leave", [0, 2_000_000])  # at once, and in the middle of writing a checkpoint
def test_a_disk_that_is_full_for_a_while_is_survived(one_class, uninterrupted, small_disk, sam3_log, leave):
    out = small_disk / "run"
    train(one_class, out, EPOCHS, EVERY_STEP, *LEAN, full_between(2, 4, leave), "logging.tensorboard.enabled=true")
    assert "cannot write" in sam3_log.text
    assert "this was number 2 (trainer.checkpoint.failed_saves_limit)" in sam3_log.text
    assert_equal_weights(uninterrupted, weights(out / "checkpoints" / LAST))
    assert not list(out.rglob(".partial.*"))


def test_a_measurement_that_cannot_be_written_ends_the_run_and_names_the_file(
    one_class, uninterrupted, small_disk, capsys
):
    out = small_disk / "run"
    settings = overrides(one_class, out, EPOCHS, *LEAN, full_between(6, 99, 0))
    assert run_command(main, ["-c", SINGLE, *settings]) == 2
    assert f"No space left on device: '{out}/dumps/val/coco_predictions_bbox.json'" in capsys.readouterr().err
    (small_disk / "filler").unlink()
    train(one_class, out, EPOCHS, *LEAN)
    assert_equal_weights(uninterrupted, weights(out / "checkpoints" / LAST))


def test_a_disk_that_stays_full_ends_the_run_and_the_last_good_state_stays(one_class, uninterrupted, small_disk):
    out = small_disk / "run"
    with pytest.raises(CheckpointError, match=r"cannot write .*last.pt: .*earlier file is unharmed: make room"):
        train(one_class, out, EPOCHS, EVERY_STEP, *LEAN, full_between(2, 99, 2_000_000))
    saved = torch.load(out / "checkpoints" / LAST, weights_only=True)
    assert saved["progress"]["steps"] == 1
    (small_disk / "filler").unlink()
    train(one_class, out, EPOCHS, *LEAN)
    assert_equal_weights(uninterrupted, weights(out / "checkpoints" / LAST))


def test_the_limit_of_failed_saves_is_as_configured(one_class, tmp_path, monkeypatch):
    trainer = make_trainer(one_class, tmp_path, "checkpoint.failed_saves_limit=2")

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    trainer.checkpointer.save_last(trainer.state, or_stop=False)
    with pytest.raises(CheckpointError):
        trainer.checkpointer.save_last(trainer.state, or_stop=False)
    monkeypatch.undo()
    trainer.checkpointer.save_last(trainer.state)
    monkeypatch.setattr(torch, "save", full)
    trainer.checkpointer.save_last(trainer.state, or_stop=False)  # counted anew


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_replaced_counted_and_reported(one_class, tmp_path, sam3_log, workers):
    data = shutil.copytree(one_class, tmp_path / "data")
    broken = sorted((data / "train/images").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:200])
    train(data, tmp_path / "run", EPOCHS, f"scratch.num_train_workers={workers}", "trainer.mode=train_only")
    reports = [r.getMessage() for r in sam3_log.records if "1 times another image took the place" in r.getMessage()]
    assert [text.split(":")[0] for text in reports] == ["epoch 1", "epoch 2"]
    assert all(broken.name in text for text in reports)
    stats = [json.loads(line) for line in Path(tmp_path / "run/logs/train_stats.json").read_text().splitlines()]
    assert [line["Trainer/replaced_images"] for line in stats] == [1, 1]


def in_two_processes(data, out):
    """Of each process: who left how, who knows of the full disk, what was replaced."""
    torch.manual_seed(0)
    trainer = make_trainer(data, out, EPOCHS, "trainer.mode=train_only", "scratch.train_batch_size=1")
    if distributed.is_main():
        trainer.callbacks = [SignalAtStep(2, "SIGUSR1")]
    with pytest.raises(StoppedBySignal) as stopped:
        trainer.run()
    saved = torch.load(trainer.checkpointer.last, weights_only=True)["progress"]["steps"]
    trainer.replaced.report(0)
    if distributed.is_main():
        trainer.checkpointer.folder = Path("/proc/nowhere")  # refuses every file
    with pytest.raises(CheckpointError) as refused:
        trainer.checkpointer.save_last(trainer.state)
    return stopped.value.code, saved, trainer.replaced.count, str(refused.value)


@pytest.mark.slow
def test_two_processes_agree(one_class, tmp_path):
    """The signal reached one, the disk refused one, and the broken image was met by one of them."""
    data = shutil.copytree(one_class, tmp_path / "data")
    for image in sorted((data / "train/images").iterdir())[:3]:
        image.write_bytes(b"no picture")
    main_process, other = run_pair(in_two_processes, data, tmp_path / "run")
    assert main_process[:2] == other[:2] == (128 + signal.SIGUSR1, 2)
    assert main_process[2] > 0
    assert other[2] == 0  # process 0 speaks for both
    assert "cannot write /proc/nowhere/last.pt" in main_process[3]
    assert "process 0 cannot write" in other[3]
