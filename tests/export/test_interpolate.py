"""Weights between base and tuned."""

import pytest
import torch

from sam3.errors import CheckpointError
from sam3.export.export_command import main
from sam3.export.interpolate import interpolate
from sam3.io.checkpoint import Checkpoint, ModelCard, read_checkpoint
from tests.small_checkpoint import save_small_checkpoint


def _weights(path, *, card=None, **tensors):
    return Checkpoint(path, "image model", {name: torch.tensor(value) for name, value in tensors.items()}, card=card)


def test_a_line_from_base_to_tuned(tmp_path):
    base, tuned = _weights(tmp_path, w=[0.0, 1.0], n=[1]), _weights(tmp_path, w=[1.0, 5.0], n=[2])
    assert interpolate(tuned, base, 0.25).state_dict["w"].tolist() == [0.25, 2.0]
    assert interpolate(tuned, base, 0.25).state_dict["n"].tolist() == [2]  # whole numbers are not mixed
    for share, end in ((0.0, base), (1.0, tuned)):
        assert torch.equal(interpolate(tuned, base, share).state_dict["w"], end.state_dict["w"])


def test_the_card_is_that_of_the_tuned_model_without_its_metric(tmp_path):
    card = ModelCard(prompts=["bolt"], metric={"AP": 0.9})
    mixed = interpolate(_weights(tmp_path, w=[1.0], card=card), _weights(tmp_path, w=[0.0]), 0.5)
    assert (mixed.card.prompts, mixed.card.metric, mixed.card.interpolation) == (["bolt"], {}, 0.5)
    assert ModelCard.from_dict(mixed.card.to_dict()) == mixed.card
    assert interpolate(_weights(tmp_path, w=[1.0]), _weights(tmp_path, w=[0.0]), 0.5).card is None


def test_parts_that_the_tuned_model_was_built_without_are_left_out(tmp_path):
    mixed = interpolate(_weights(tmp_path, w=[1.0]), _weights(tmp_path, w=[0.0], more=[3.0]), 0.5)
    assert set(mixed.state_dict) == {"w"}


def test_another_network_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"lacks 1 of 2 tensors \(head\)"):
        interpolate(_weights(tmp_path, w=[1.0], head=[1.0]), _weights(tmp_path, w=[0.0]), 0.5)
    with pytest.raises(CheckpointError, match=r"w \[1\] and \[2\]"):
        interpolate(_weights(tmp_path, w=[1.0, 2.0]), _weights(tmp_path, w=[0.0]), 0.5)


def test_the_command_writes_a_file_that_says_how_it_was_mixed(trained, tmp_path, capsys):
    base, target = save_small_checkpoint(tmp_path / "base.pt", seed=1), tmp_path / "mixed.safetensors"
    assert main(["--interpolate", "0.7", str(base), str(trained), "-o", str(target)]) == 0
    assert "0.7 of the tuned weights" in capsys.readouterr().out
    written, ends = read_checkpoint(target), (read_checkpoint(base), read_checkpoint(trained))
    assert written.card.interpolation == 0.7
    for name, tensor in written.state_dict.items():
        low, high = (end.state_dict[name].float() for end in ends)
        assert torch.allclose(tensor, low + 0.7 * (high - low), atol=1e-6)
