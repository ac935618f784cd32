"""Averaged weights: the formula, who sees them, and exact resume."""

import pytest
import torch

from sam3.errors import ConfigError
from sam3.train.checkpointing import BEST, LAST
from sam3.train.config_loading import load_config
from sam3.train.weight_average import NO_AVERAGES, WeightAverage
from tests.train.micro import SINGLE, assert_equal_weights, make_trainer, overrides, train, weights

EMA = "trainer.ema={decay: 0.6}"


def constant(value):
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.weight, value)
    layer.bias.requires_grad_(False)
    return layer


def test_the_average_follows_the_weights():
    layer = constant(1.0)
    average = WeightAverage(layer, 0.25)
    expected = 1.0
    for step, value in enumerate([3.0, 5.0, -2.0], start=1):
        torch.nn.init.constant_(layer.weight, value)
        average.update()
        decay = min(0.25, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        assert layer.weight.item() == pytest.approx(expected)
    assert layer.weight.item() == -2.0
    assert list(average.state_dict()["averages"]) == ["weight"]  # what does not learn is not kept twice


def test_saved_averages_come_back_also_from_within_the_block():
    layer = constant(1.0)
    average = WeightAverage(layer, 0.5)
    torch.nn.init.constant_(layer.weight, 4.0)
    average.update()
    mean = average.state_dict()["averages"]["weight"].item()

    other = constant(4.0)
    copy = WeightAverage(other, 0.5)
    copy.load_state_dict(average.state_dict())
    with copy.applied():
        assert other.weight.item() == mean
    with average.applied():  # as an export is written: the averages are the weights of the file
        saved = {"state": average.state_dict(), "weight": layer.weight.item()}
        other = constant(saved["weight"])
        copy = WeightAverage(other, 0.5)
        copy.load_state_dict(saved["state"])
    assert (other.weight.item(), copy.updates) == (4.0, 1)
    with copy.applied():
        assert other.weight.item() == mean


def test_without_saved_averages_they_begin_with_the_weights():
    layer = constant(1.0)
    average = WeightAverage(layer, 0.5)
    torch.nn.init.constant_(layer.weight, 7.0)  # as loading a file does
    average.load_state_dict(NO_AVERAGES)
    with average.applied():
        assert layer.weight.item() == 7.0


def test_training_is_the_same_and_averages_are_validated_and_exported(one_class, tmp_path, monkeypatch):
    settings = ["scratch.max_epochs=2", "checkpoint.save_freq=2"]
    plain = train(one_class, tmp_path / "plain", *settings)
    trainer = make_trainer(one_class, tmp_path / "averaged", *settings, EMA)
    validated, run = [], trainer.validator.run

    def watched(model, autocast):
        validated.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return run(model, autocast)

    monkeypatch.setattr(trainer.validator, "run", watched)
    trainer.run()
    folder = tmp_path / "averaged/checkpoints"
    learning = weights(folder / LAST)
    assert_equal_weights(weights(plain / "checkpoints" / LAST), learning)
    averages = torch.load(folder / LAST, weights_only=True)["average"]["averages"]
    exported = weights(folder / "checkpoint_2.pt")
    assert all(torch.equal(exported[name], tensor) for name, tensor in averages.items())
    assert any(not torch.equal(exported[name], learning[name]) for name in averages)
    assert_equal_weights(exported, {name: validated[-1][name] for name in exported})
    best = trainer.progress.best_epoch
    assert_equal_weights(weights(folder / BEST), {name: validated[best - 1][name] for name in exported})


@pytest.mark.parametrize("source", [LAST, "checkpoint_1.pt"])
def test_an_interrupted_run_goes_on_exactly(one_class, tmp_path, source):
    settings = [EMA, "scratch.max_epochs=2", "checkpoint.save_freq=1", "trainer.mode=train_only"]
    whole = train(one_class, tmp_path / "whole", *settings)
    trainer = make_trainer(one_class, tmp_path / "run", *settings)
    trainer.train_epoch()
    trainer._finish_epoch()
    out, start = tmp_path / "run", []
    if source != LAST:
        out, start = tmp_path / "new", [f"checkpoint.resume_from={tmp_path / 'run/checkpoints' / source}"]
    train(one_class, out, *settings, *start)
    for name in (LAST, "checkpoint_2.pt"):
        assert_equal_weights(weights(whole / "checkpoints" / name), weights(out / "checkpoints" / name))


def test_an_impossible_decay_is_named(one_class, tmp_path):
    with pytest.raises(ConfigError, match=r"trainer.ema.decay is 1.0; expected 0 <= decay < 1"):
        load_config(SINGLE, overrides(one_class, tmp_path, "trainer.ema={decay: 1.0}"))
