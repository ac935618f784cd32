"""Batches that are kept for a look: what the files hold, how many there are, what a full disk does."""

import errno
import json

import pytest
import torch
from safetensors.torch import load_file

from sam3.train import batch_dumps
from sam3.train.batch_dumps import BatchDumps
from tests.train.micro import make_trainer


@pytest.fixture(scope="module")
def batch(one_class, tmp_path_factory):
    return next(make_trainer(one_class, tmp_path_factory.mktemp("run")).train_loader.iterate())


def write(dumps, batch, step=3):
    parts = {"loss_ce": torch.tensor(0.5), "loss_mask": torch.tensor(float("inf"))}
    return dumps.write(batch, epoch=2, step=step, reason="loss inf", parts=parts)


def test_inputs_targets_and_losses_are_kept(batch, tmp_path):
    batch.images[1, 0, 0, 0] = float("nan")
    path = write(BatchDumps(tmp_path / "dumps", 3, rank=1), batch)
    assert path.name == "epoch_2_step_3_rank_1_0.json"
    told = json.loads(path.read_text())
    assert "red circle" in batch.phrases
    assert told == {
        "images": batch.origin.file_names,
        "images_are_finite": [True, False],
        "phrases": batch.phrases,
        "losses": {"loss_ce": 0.5, "loss_mask": "inf"},
        "epoch": 2,
        "step": 3,
        "reason": "loss inf",
    }
    tensors = load_file(path.with_suffix(".safetensors"))
    assert torch.equal(tensors["images"].nan_to_num(7), batch.images.nan_to_num(7))
    for name in ("boxes", "masks", "num_boxes"):
        assert torch.equal(tensors[f"targets.{name}"], getattr(batch.targets, name))
    assert tensors["prompt.boxes"].shape == batch.prompt.boxes.shape
    assert torch.equal(tensors["origin.image_ids"], batch.origin.image_ids)


def test_there_are_never_more_than_asked_for(batch, tmp_path):
    kept = [write(BatchDumps(tmp_path, 2), batch, step) for step in range(5)]  # as if restarted before each
    assert [path is not None for path in kept] == [True, True, False, False, False]
    assert write(BatchDumps(tmp_path, 2, rank=1), batch) is not None  # each process has its own
    assert write(BatchDumps(tmp_path / "none", 0), batch) is None
    assert not (tmp_path / "none").exists()


def test_a_full_disk_costs_the_dump_and_nothing_else(batch, tmp_path, monkeypatch, sam3_log):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(batch_dumps, "_write_tensors", full)
    assert write(BatchDumps(tmp_path, 2), batch) is None
    assert "the batch is not kept" in sam3_log.text
    assert "No space left" in sam3_log.text
