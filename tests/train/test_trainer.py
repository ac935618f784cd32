"""The step: accumulation, clipping, freezing, what is skipped; and the order of events."""

import io
import logging

import pytest
import torch

from sam3.data.collate import split_batch
from sam3.model_builder import set_tf32
from sam3.train.checkpointing import LAST
from sam3.train.finite_guard import NotFiniteError
from sam3.train.trainer import Precision
from tests.train.faults import Recorder
from tests.train.micro import make_trainer, train, weights

NO_DROPOUT = ["++model.overrides.vision.drop_path_rate=0.0", "++model.overrides.detector.dropout=0.0"]
NAN = "++loss.terms.broken={{_target_: tests.train.faults.NanLoss, first: {0}, last: {1}}}"


@pytest.fixture
def calm(one_class, tmp_path):
    """A trainer without dropout, and its first batch of two images."""
    trainer = make_trainer(one_class, tmp_path, *NO_DROPOUT, "optim.gradient_clip=null")
    return trainer, next(trainer.train_loader.iterate())


def gradients(trainer, batch):
    """Of one batch, by hand."""
    trainer.model.zero_grad()
    trainer.criterion(trainer.model(batch), batch.targets).total.backward()
    return {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.fixture
def tf32_restored():
    before = torch.backends.cuda.matmul.allow_tf32
    yield
    set_tf32(before)


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_as_configured(one_class, tmp_path, tf32_restored, allowed):
    set_tf32(not allowed)
    make_trainer(one_class, tmp_path, f"trainer.allow_tf32={allowed}")
    assert torch.backends.cuda.matmul.allow_tf32 is allowed
    assert torch.backends.cudnn.allow_tf32 is allowed


def test_accumulated_gradients_are_averages(calm, monkeypatch):
    trainer, batch = calm
    trainer.model.train()
    first, second = (gradients(trainer, part) for part in split_batch(batch, 2))
    monkeypatch.setattr(trainer.optimizer.optimizer, "step", lambda *_: None)
    trainer.settings.gradient_accumulation_steps = 2
    result = trainer.train_step(batch)
    assert result.images == 2
    for name, parameter in trainer.model.named_parameters():
        if name in first:
            expected = (first[name] + second.get(name, 0)) / 2
            torch.testing.assert_close(
                parameter.grad, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max() + 1e-9)
            )


def test_more_parts_than_images_are_no_trouble(calm):
    trainer, batch = calm
    trainer.settings.gradient_accumulation_steps = 5
    assert trainer.train_step(batch).losses["loss"].isfinite()


def test_gradients_are_clipped(one_class, tmp_path, monkeypatch):
    trainer = make_trainer(one_class, tmp_path, "optim.gradient_clip.max_norm=0.01")
    monkeypatch.setattr(trainer.optimizer.optimizer, "step", lambda *_: None)
    result = trainer.train_step(next(trainer.train_loader.iterate()))
    after = torch.nn.utils.get_total_norm([p.grad for p in trainer.model.parameters() if p.grad is not None])
    assert result.gradient_norm > 0.01
    assert float(after) == pytest.approx(0.01, rel=1e-3)


def test_schedules_follow_the_steps(one_class, tmp_path):
    trainer = make_trainer(one_class, tmp_path, "scratch.max_epochs=2", "scratch.scheduler_warmup=1")
    batch, rates = next(trainer.train_loader.iterate()), []
    for step in range(6):
        trainer.progress.steps = step
        trainer.train_step(batch)
        rates.append(trainer.optimizer.optimizer.param_groups[0]["lr"])
    # Half of the rate in the one warm-up step, constant to half of the run, then down to 2 %.
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3, 1e-3, 1e-3 * (1 - 0.5 * 0.98), 2e-5])


def test_frozen_parameters_stay_and_others_move(one_class, tmp_path):
    freeze = "model.freeze=['backbone.language_backbone.*', '*.norm*']"
    trainer = make_trainer(one_class, tmp_path, freeze, "scratch.max_epochs=1")
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run()
    moved = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith("backbone.language_backbone.") or ".norm" in name for name in moved)
    assert any(name.startswith("backbone.vision_backbone.") for name in moved)
    assert "backbone.language_backbone.resizer.weight" in weights(tmp_path / "checkpoints" / LAST)


def test_a_loss_that_is_not_finite_skips_the_step_and_names_the_batch(one_class, tmp_path, sam3_log):
    trainer = make_trainer(one_class, tmp_path, NAN.format(0, 1))
    trainer.model.train()
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    batch = next(trainer.train_loader.iterate())
    assert trainer.train_step(batch).skipped
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())
    text = sam3_log.text
    assert "epoch 0, step 0: loss nan (not finite: loss_broken, loss_broken_o2m)" in text
    assert all(name in text for name in batch.origin.file_names)
    assert not trainer.train_step(batch).skipped


def test_predictions_that_are_not_finite_are_skipped_too(one_class, tmp_path, sam3_log):
    trainer = make_trainer(one_class, tmp_path)
    with torch.no_grad():
        trainer.model.dot_prod_scoring.hs_proj.weight.fill_(float("nan"))
    assert trainer.train_step(next(trainer.train_loader.iterate())).skipped
    assert "the matching cost is not finite" in sam3_log.text


def test_too_many_in_a_row_stop_the_run_and_keep_the_good_state(one_class, tmp_path):
    with pytest.raises(NotFiniteError, match="2 steps in a row .*epoch 0, step 3.*trainer.nonfinite_limit"):
        train(one_class, tmp_path, NAN.format(1, 99), "trainer.nonfinite_limit=2")
    saved = torch.load(tmp_path / "checkpoints" / LAST, weights_only=True)
    assert saved["progress"]["step_in_epoch"] == 3
    assert saved["progress"]["nonfinite_steps"] == 2
    kept = sorted(path.name for path in (tmp_path / "dumps/nonfinite").glob("*.json"))
    assert kept == ["epoch_0_step_1_rank_0_0.json", "epoch_0_step_2_rank_0_1.json"]
    assert all(tensor.isfinite().all() for tensor in saved["model"].values())


def test_the_number_of_kept_batches_is_as_configured(one_class, tmp_path):
    with pytest.raises(NotFiniteError):
        train(one_class, tmp_path, NAN.format(0, 99), "trainer.nonfinite_limit=3", "trainer.nonfinite_dumps=1")
    assert len(list((tmp_path / "dumps/nonfinite").glob("*.safetensors"))) == 1


def test_order_of_events(one_class, tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "events", [])
    extra = ["trainer.callbacks=[{_target_: tests.train.faults.Recorder}]", "scratch.max_epochs=4"]
    make_trainer(one_class, tmp_path, *extra, "trainer.val_epoch_freq=2", "trainer.skip_first_val=true").run()
    epoch = ["on_step_end"] * 3 + ["on_epoch_end"]
    expected = [
        "on_train_start",
        *epoch,
        *epoch,
        *epoch,
        "on_validation_end",
        *epoch,
        "on_validation_end",
        "on_train_end",
    ]
    assert Recorder.events == expected


def test_precision_follows_the_settings():
    full = Precision(torch.device("cpu"), None)
    half = Precision(torch.device("cpu"), torch.float16)
    assert not full.scaler().is_enabled()
    assert half.scaler().is_enabled()
    assert not Precision(torch.device("cpu"), torch.bfloat16).scaler().is_enabled()
    with half.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float16
    with full.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_the_log_says_where_the_run_is(one_class, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="sam3")
    make_trainer(one_class, tmp_path, "scratch.max_epochs=1", "logging.log_freq=2").run()
    lines = [record.getMessage() for record in caplog.records if "images/s" in record.getMessage()]
    assert [line.split(" | ")[0] for line in lines] == ["epoch 1/1 [2/3]", "epoch 1/1 [3/3]"]
    assert all(word in lines[0] for word in ("loss ", "loss_ce ", "GB", "ETA 00:00:0"))
    assert f"best cgF1_eval_segm_cgF1 0.000 after epoch 1: {tmp_path / 'checkpoints' / 'best.pt'}" in caplog.text


def test_the_live_line_shows_the_last_average_precision(one_class, tmp_path):
    trainer = make_trainer(one_class, tmp_path, "scratch.max_epochs=2", "logging.live_line=true")
    trainer.log.live.stream, trainer.log.live.PERIOD = io.StringIO(), 0
    trainer.run()
    shown = [text.strip() for text in trainer.log.live.stream.getvalue().split("\r") if text.strip()]
    assert [text.split(" | ")[0] for text in shown if text.startswith("epoch 2/2")] == [
        f"epoch 2/2 [{step}/3]" for step in (1, 2, 3)
    ]
    assert sum(text.startswith("validation [") for text in shown) == 2 * 3
    assert not any("AP" in text for text in shown if text.startswith("epoch 1"))
    assert all("| cgF1 0.000 (best 0.000)" in text for text in shown if text.startswith("epoch 2"))
    progress = trainer.progress
    progress.last_metric, progress.best_metric, progress.last_ap = 0.25, 0.5, 0.125
    parts = trainer.log._line(trainer).split(" | ")
    assert parts[3:5] == ["cgF1 0.250 (best 0.500)", "AP 0.125"]
    assert [part.split()[0] for part in parts[:3]] == ["epoch", "ETA", "loss"]
    assert [part.split()[1] for part in parts[5:7]] == ["images/s", "GB"]
    progress.metric_name = "coco_eval_segm_AP"
    assert trainer.log._line(trainer).split(" | ")[3:5] == ["AP 0.250 (best 0.500)", parts[5]]
