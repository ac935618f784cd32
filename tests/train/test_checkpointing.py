"""When files are written, what happens when the disk refuses."""

import errno

import pytest
import torch

from sam3.errors import CheckpointError
from sam3.io.checkpoint import ModelCard
from sam3.train.checkpointing import BEST, LAST, Checkpointer, disk_errors_named
from sam3.train.progress import Progress
from sam3.train.schema import CheckpointConfig
from tests.train.micro import make_trainer, weights


def checkpointer(folder, **values):
    return Checkpointer(CheckpointConfig(save_dir=str(folder), **values), ModelCard(), {})


def test_epochs_to_export(tmp_path):
    listed = checkpointer(tmp_path, save_epochs=[2, 5], save_freq=3)
    assert [epoch for epoch in range(8) if listed.is_export_due(epoch)] == [2, 3, 5, 6]
    listed.epoch_file(3).touch()
    assert not listed.is_export_due(3)
    assert not any(checkpointer(tmp_path).is_export_due(epoch) for epoch in range(8))


def test_steps_to_save_after(tmp_path):
    every_two = checkpointer(tmp_path, save_every_steps=2)
    due = [step for step in range(1, 7) if every_two.is_due_after_step(Progress(steps=step, step_in_epoch=step))]
    assert due == [2, 4, 6]
    assert not checkpointer(tmp_path).is_due_after_step(Progress(steps=2, step_in_epoch=2))


def test_a_full_disk_gives_a_message_and_leaves_the_old_file(one_class, tmp_path, monkeypatch):
    trainer = make_trainer(one_class, tmp_path)
    trainer.checkpointer.save_last(trainer.state)
    path = tmp_path / "checkpoints" / LAST
    before = path.read_bytes()

    def full(content, target):
        target.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*last.pt: .*No space left.*GiB free in .*unharmed"):
        trainer.checkpointer.save_last(trainer.state)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [LAST]


def test_other_errors_are_not_disguised(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"), disk_errors_named(tmp_path / "a.pt"):
        raise RuntimeError("a bug")
    with pytest.raises(CheckpointError, match="cannot write"), disk_errors_named(tmp_path / "a.pt"):
        raise RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed writing file data/1")


def test_half_precision_is_for_exports_only(one_class, tmp_path):
    trainer = make_trainer(one_class, tmp_path, "checkpoint.save_fp16=true")
    trainer.checkpointer.export(tmp_path / "checkpoints" / BEST, trainer.state)
    trainer.checkpointer.save_last(trainer.state)
    assert {tensor.dtype for tensor in weights(tmp_path / "checkpoints" / BEST).values()} == {torch.float16}
    assert {tensor.dtype for tensor in weights(tmp_path / "checkpoints" / LAST).values()} == {torch.float32}


def test_the_card_names_a_metric_only_where_it_was_measured(one_class, tmp_path):
    trainer = make_trainer(one_class, tmp_path)
    progress = trainer.progress
    progress.metric_name, progress.last_metric, progress.last_metric_epoch, progress.epoch = "AP", 0.5, 1, 1
    trainer.checkpointer.save_last(trainer.state)
    path = tmp_path / "checkpoints" / LAST
    card = torch.load(path, weights_only=True)["card"]
    assert (card["metric"], card["epoch"]) == ({"AP": 0.5}, 1)
    progress.step_in_epoch = 1
    trainer.checkpointer.save_last(trainer.state)
    assert torch.load(path, weights_only=True)["card"]["metric"] == {}
