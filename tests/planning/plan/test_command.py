"""``sam3 plan`` as it is typed."""

import json

import pytest

from sam3.cli import main
from sam3.errors import ConfigError, UserError
from sam3.planning.plan import planner
from sam3.planning.plan.fitting import Change
from tests.train.micro import FAST, MODEL, SINGLE

ARGUMENTS = ["plan", "-c", SINGLE, *MODEL, *FAST, "paths.dataset_root=/nowhere"]


@pytest.fixture(autouse=True)
def traced(full, frozen, monkeypatch):
    """The command's own traces, made before."""

    def estimate_step(run, shape, device):
        return frozen if run.model.tune.freeze else full

    monkeypatch.setattr(planner, "estimate_step", estimate_step)
    change = Change(("tune=frozen_text",), "phrases keep their meaning")
    monkeypatch.setattr(planner, "possible_changes", lambda run, estimate: [change])


def test_a_plan_needs_neither_data_nor_weights(full, capsys):
    assert main([*ARGUMENTS, "--gpu-memory", "24GiB", "--tflops", "0.01", "--images", "20", "--objects", "2"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["step"].startswith("2 images of 56 x 56 pixels; in each 2 phrases, 4 objects")
    assert "--objects, --images, assumed" in lines["step"]
    assert lines["precision"] == "float32, kernels of cpu"
    assert lines["parameters"] == f"{full.trainable:,} trainable, 0 frozen"
    assert "an epoch of 10 steps at 0.01 TFLOP/s" in lines["time"]
    assert lines["card"].startswith("24.00 GiB: fits")
    assert "what" not in lines


def test_a_card_that_is_too_small_ends_with_1_and_suggestions(capsys):
    assert main([*ARGUMENTS, "--gpu-memory", "100MiB"]) == 1
    printed = capsys.readouterr().out
    assert "does not fit" in printed
    assert "tune=frozen_text  (phrases keep their meaning)" in printed
    assert "none of these is enough" in printed


def test_json_holds_everything(full, frozen, capsys):
    assert main([*ARGUMENTS, "--suggest", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"] is None
    assert plan["bytes"]["peak"] == full.peak
    assert plan["flop_per_step"] == full.trace.flop
    (suggestion,) = plan["suggestions"]
    assert suggestion["overrides"] == ["tune=frozen_text"]
    assert suggestion["bytes"]["peak"] == frozen.peak < full.peak


def test_what_is_no_size_is_refused():
    with pytest.raises(UserError, match="--gpu-memory is 'much'; expected a size"):
        main([*ARGUMENTS, "--gpu-memory", "much"])


def test_wrong_numbers_and_keys_are_refused():
    with pytest.raises(UserError, match="--phrases is 0"):
        main([*ARGUMENTS, "--phrases", "0"])
    with pytest.raises(ConfigError, match="scratch.resolutoin"):
        main([*ARGUMENTS, "scratch.resolutoin=3"])


def test_a_configuration_that_trains_nothing_is_refused():
    with pytest.raises(ConfigError, match="trains nothing"):
        main([*ARGUMENTS, "trainer.mode=val"])
