"""Where a run begins: own rolling file, given checkpoint, given weights, or afresh."""

import gc
import re
import shutil
from pathlib import Path

import pytest
import torch

from sam3.errors import CheckpointError, ConfigError
from sam3.io.checkpoint import ModelCard, save_weights
from sam3.train import distributed
from sam3.train.checkpointing import LAST
from sam3.train.progress import Progress
from sam3.train.reproducibility import random_state
from sam3.train.resuming import (
    Beginning,
    _adapt_to_images_per_step,
    _restore_random,
    changed_settings,
    check_agreement,
    choose_start,
)
from sam3.train.schema import CheckpointConfig
from tests.train.micro import assert_equal_weights, make_trainer, train, weights

ONE = "scratch.max_epochs=1"


@pytest.fixture(scope="module")
def finished(one_class, tmp_path_factory):
    """One epoch, with an export."""
    return train(one_class, tmp_path_factory.mktemp("finished"), ONE, "checkpoint.save_epochs=[1]")


def settings(folder, **values):
    return CheckpointConfig(save_dir=str(folder / "checkpoints"), **values)


def test_nothing_there_is_a_fresh_start(tmp_path):
    assert choose_start(settings(tmp_path), "train").beginning is Beginning.FRESH


def test_the_rolling_file_is_always_resumed(finished):
    start = choose_start(settings(finished), "train")
    assert (start.beginning, start.path, start.continues_rolling) == (
        Beginning.RESUME,
        finished / "checkpoints" / LAST,
        True,
    )
    named = choose_start(settings(finished, resume_from=str(finished / "checkpoints" / LAST)), "train")
    assert named.continues_rolling


def test_a_missing_file_lists_its_neighbours(finished, tmp_path):
    with pytest.raises(CheckpointError, match="gone.pt does not exist. .*best.pt, checkpoint_1.pt, last.pt"):
        choose_start(settings(tmp_path, resume_from=str(finished / "checkpoints/gone.pt")), "train")
    with pytest.raises(CheckpointError, match="last.pt does not exist. .*none"):
        choose_start(settings(tmp_path, resume_from=str(tmp_path / "checkpoints/last.pt")), "train")


def test_a_damaged_file_is_named(finished, tmp_path):
    broken = tmp_path / "broken.pt"
    broken.write_bytes((finished / "checkpoints" / LAST).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="broken.pt': damaged, truncated"):
        choose_start(settings(tmp_path, resume_from=str(broken)), "train")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="open files are looked up in /proc")
def test_a_resumed_run_does_not_hold_on_to_its_old_file(one_class, finished, tmp_path):
    """Otherwise the disk keeps every replaced file, and Windows refuses to replace it."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    trainer = make_trainer(one_class, tmp_path, "scratch.max_epochs=2")
    assert trainer.progress.epoch == 1
    gc.collect()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_a_complete_file_of_another_run_is_continued(one_class, finished, tmp_path, sam3_log):
    given = f"trainer.checkpoint.resume_from='{finished / 'checkpoints/checkpoint_1.pt'}'"
    train(one_class, tmp_path, "scratch.max_epochs=2", given)
    assert "1 epochs and 0 steps of the next one are done" in sam3_log.text
    last = torch.load(tmp_path / "checkpoints" / LAST, weights_only=True)
    assert last["progress"]["steps"] == 6
    assert last["origin"]["descends_from"]["path"] == str(finished / "checkpoints/checkpoint_1.pt")
    # The same command again is no conflict, also when the file has moved.
    assert choose_start(settings(tmp_path, resume_from=given.split("'")[1]), "train").continues_rolling
    moved = tmp_path / "moved.pt"
    shutil.copy(finished / "checkpoints/checkpoint_1.pt", moved)
    assert choose_start(settings(tmp_path, resume_from=str(moved)), "train").continues_rolling


def test_weights_only_start_at_epoch_0(one_class, finished, tmp_path, sam3_log):
    state = {name: tensor * 0.5 for name, tensor in weights(finished / "checkpoints" / LAST).items()}
    given = tmp_path / "weights.safetensors"
    save_weights(given, state, ModelCard())
    train(one_class, tmp_path, ONE, f"checkpoint.resume_from='{given}'", "scratch.lr_transformer=0", "scratch.wd=0")
    assert "holds weights only" in sam3_log.text
    assert_equal_weights(weights(tmp_path / "checkpoints" / LAST), state)


def test_a_conflict_stops_and_says_so(finished, tmp_path):
    other = tmp_path / "other.pt"
    save_weights(other, weights(finished / "checkpoints" / LAST), None)
    with pytest.raises(ConfigError, match="was started without resume_from.*on_conflict=keep.*on_conflict=restart"):
        choose_start(settings(finished, resume_from=str(other)), "train")
    kept = choose_start(settings(finished, resume_from=str(other), on_conflict="keep"), "train")
    assert kept.continues_rolling
    restarted = choose_start(settings(finished, resume_from=str(other), on_conflict="restart"), "train")
    assert (restarted.beginning, restarted.path) == (Beginning.WEIGHTS, other)
    assert restarted.displaced == finished / "checkpoints" / LAST
    validation = choose_start(settings(finished, resume_from=str(other)), "val")
    assert (validation.path, validation.displaced) == (other, None)


def test_restart_keeps_the_old_file(one_class, finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "checkpoints" / LAST).read_bytes()
    given = f"checkpoint.resume_from='{tmp_path / 'checkpoints/best.pt'}'"
    train(
        one_class, tmp_path, given, "checkpoint.on_conflict=restart", "trainer.mode=train_only", "scratch.max_epochs=2"
    )
    assert (tmp_path / "checkpoints/last_before_restart_1.pt").read_bytes() == before
    # The new rolling file descends from best.pt: the same command again displaces nothing.
    again = settings(tmp_path, resume_from=str(tmp_path / "checkpoints/best.pt"), on_conflict="restart")
    assert choose_start(again, "train").displaced is None


def test_a_foreign_rolling_file_is_not_overwritten(finished, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    save_weights(tmp_path / "checkpoints" / LAST, weights(finished / "checkpoints" / LAST), None)
    with pytest.raises(CheckpointError, match="not a complete training checkpoint; move it away"):
        choose_start(settings(tmp_path), "train")


def test_another_model_shape_is_refused(one_class, finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match="another shape|are not in the file"):
        train(one_class, tmp_path, "scratch.max_epochs=2", "++model.overrides.detector.num_queries=5")


def test_a_file_that_says_nothing_of_the_images_of_a_step_is_of_one_process(one_class, finished, tmp_path):
    content = torch.load(finished / "checkpoints" / LAST, weights_only=True)
    del content["origin"]["images_per_step"]
    older = tmp_path / "older" / "checkpoints" / LAST
    older.parent.mkdir(parents=True)
    torch.save(content, older)
    resumed = make_trainer(one_class, tmp_path / "older", "scratch.max_epochs=2")
    assert (resumed.progress.epoch, resumed.progress.step_in_epoch) == (1, 0)


def test_changed_settings_are_named_and_a_new_order_begins_the_epoch_anew(one_class, tmp_path, sam3_log):
    stop = "trainer.callbacks=[{_target_: tests.train.faults.Stop, at: step, number: 5}]"
    with pytest.raises(KeyboardInterrupt):
        train(one_class, tmp_path, "scratch.max_epochs=2", "checkpoint.save_every_steps=1", stop)
    train(one_class, tmp_path, "scratch.max_epochs=3", "data.train.shuffle=false", "scratch.lr_scale=0.2")
    assert "data.train.shuffle: True -> False" in sam3_log.text
    assert "order changed: epoch 1 begins anew" in sam3_log.text
    assert torch.load(tmp_path / "checkpoints" / LAST, weights_only=True)["progress"]["steps"] == 3 * 3


def test_changes_without_effect_are_not_worth_a_line():
    old = {"scratch": {"lr_scale": 1, "num_train_workers": 4}, "logging": {"log_freq": 1}, "only_old": 1}
    new = {"scratch": {"lr_scale": 2, "num_train_workers": 0}, "logging": {"log_freq": 5}}
    assert changed_settings(old, new) == ["scratch.lr_scale: 1 -> 2", "only_old: 1 -> absent"]


@pytest.mark.parametrize(
    ("step", "old", "new", "steps_per_epoch", "expected", "said"),
    [
        (5, 2, 2, 10, 5, None),
        (4, 2, 4, 5, 2, "a step now takes 4 images instead of 2, .* 2 of 5 steps are done$"),
        (5, 2, 4, 5, 2, "2 of 5 steps are done, 2 images are seen again$"),
        (2, 4, 1, 20, 8, "8 of 20 steps"),
        (1, 8, 1, 5, 5, "5 of 5 steps"),  # the last step was not full
        (0, 8, 1, 5, 0, "0 of 5 steps"),
    ],
)
def test_steps_are_counted_anew_when_a_step_takes_other_images(
    sam3_log, step, old, new, steps_per_epoch, expected, said
):
    progress = Progress(epoch=3, step_in_epoch=step)
    _adapt_to_images_per_step(progress, old, new, steps_per_epoch)
    assert progress.step_in_epoch == expected
    assert bool(said) == bool(sam3_log.text)
    assert re.search(said or "", sam3_log.messages[0] if said else "")


def test_a_process_that_the_saved_run_did_not_have_draws_from_its_own_seed(monkeypatch, sam3_log):
    torch.manual_seed(1)
    states = [random_state()]
    expected = torch.rand(1)
    for rank, is_same in ((0, True), (1, False)):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        _restore_random(states, seed=4)
        assert torch.equal(torch.rand(1), expected) == is_same
    assert "resuming with 2 instead of 1 processes" in sam3_log.text


def test_machines_without_a_common_folder_are_found_out(finished, monkeypatch):
    start = choose_start(settings(finished), "train")
    check_agreement(start)
    monkeypatch.setattr(distributed, "broadcast_object", lambda value: ("elsewhere/last.pt", None))
    with pytest.raises(CheckpointError, match="process 0 has elsewhere/last.pt .epoch 1, step 0 and no progress"):
        check_agreement(start)
