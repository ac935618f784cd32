"""The plan that ``--dry-run`` prints."""

from dataclasses import replace

import pytest
import torch

from sam3.train.plan import checkpoint_sizes, count_exports
from sam3.train.schema import CheckpointConfig, EmaConfig, TrainerConfig
from sam3.train.train import main
from tests.train.micro import SINGLE, make_trainer, overrides


def test_the_plan_says_what_the_run_will_do_and_writes_nothing(one_class, tmp_path, capsys):
    extra = ["scratch.max_epochs=7", "checkpoint.save_freq=2", "model.freeze=['backbone.language_backbone.*']"]
    main(["-c", SINGLE, *overrides(one_class, tmp_path / "run", *extra), "--dry-run"])
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line)
    assert lines["mode"] == "train on cpu, float32"
    assert "6 images, 6 queries" in lines["training"]
    assert "3 images, 3 queries" in lines["validation"]
    assert lines["steps"] == "7 epochs x 3 = 21, batches of 2 images"
    assert lines["classes"] == "red circle"
    assert "4 exports" in lines["checkpoints"]  # after epochs 2, 4, 6 and the best
    assert not (tmp_path / "run").exists()

    trainer = make_trainer(one_class, tmp_path / "built", *extra)
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in trainer.model.parameters()) - trainable
    assert lines["parameters"] == f"{trainable:,} trainable in 1 groups, {frozen:,} frozen"


@pytest.mark.parametrize("averaged", [[], ["trainer.ema={decay: 0.9}"]])
def test_expected_sizes_are_those_of_the_files(one_class, tmp_path, averaged):
    extra = ["checkpoint.save_model_only=true", "checkpoint.save_fp16=true"]
    trainer = make_trainer(one_class, tmp_path, *extra, *averaged)
    trainer.train_step(next(trainer.train_loader.iterate()))
    checkpointer = trainer.checkpointer
    checkpointer.save_last(trainer.state)
    checkpointer.export(checkpointer.epoch_file(1), trainer.state)
    total = sum(p.numel() for p in trainer.model.parameters())
    rolling, export = checkpoint_sizes(trainer.settings, total, total)
    assert abs(checkpointer.last.stat().st_size / rolling - 1) < 0.2
    assert abs(checkpointer.epoch_file(1).stat().st_size / export - 1) < 0.2


def test_sizes_of_the_released_model():
    full, frozen_text = 840_509_750, 840_509_750 - 353_720_000
    rolling, export = checkpoint_sizes(TrainerConfig(checkpoint=CheckpointConfig(save_dir="")), full, full)
    assert rolling == export == 12 * full
    small = TrainerConfig(checkpoint=CheckpointConfig(save_dir="", save_model_only=True, save_fp16=True))
    assert checkpoint_sizes(replace(small, ema=EmaConfig()), full, full) == (16 * full, 2 * full)
    assert checkpoint_sizes(small, frozen_text, full) == (4 * full + 8 * frozen_text, 2 * full)


def test_exports_are_counted_once():
    settings = CheckpointConfig(save_dir="", save_freq=5, save_epochs=[1, 5, 99])
    assert count_exports(settings, 12) == 3
    assert count_exports(CheckpointConfig(save_dir=""), 12) == 0


def test_the_released_model_is_planned_without_memory(one_class, tmp_path, capsys):
    arguments = [f"paths.dataset_root={one_class}", f"paths.experiment_log_dir={tmp_path / 'run'}"]
    main(["-c", SINGLE, *arguments, "dataset.class_name=red circle", "trainer.accelerator=cpu", "--dry-run"])
    printed = capsys.readouterr().out
    assert "840,509,750 trainable in 73 groups, 0 frozen" in printed
    assert "the released weights (download)" in printed
    assert "last.pt 9.39 GiB" in printed
    assert torch.get_default_dtype() is torch.float32
