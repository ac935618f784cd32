"""Adapters as tensors by name."""

import pytest
import torch

from sam3.errors import CheckpointError
from sam3.io.low_rank import adapted_weight, adapted_weights, adapter_names, merge_low_rank


def state(**changes):
    names = adapter_names("a.weight")
    tensors = {
        "a.weight": torch.zeros(3, 2),
        "a.bias": torch.ones(3),
        names["down"]: torch.tensor([[1.0, 2.0]]),
        names["up"]: torch.tensor([[1.0], [0.0], [-1.0]]),
        names["scale"]: torch.tensor(2.0),
    }
    return tensors | changes


def test_merging_adds_scale_times_up_times_down():
    merged = merge_low_rank(state())
    assert list(merged) == ["a.weight", "a.bias"]
    assert merged["a.weight"].tolist() == [[2.0, 4.0], [0.0, 0.0], [-2.0, -4.0]]
    assert merged["a.bias"].tolist() == [1.0, 1.0, 1.0]


def test_half_precision_is_merged_in_float32():
    merged = merge_low_rank(state(**{"a.weight": torch.full((3, 2), 1000.0, dtype=torch.float16)}))
    assert merged["a.weight"].dtype == torch.float32
    assert merged["a.weight"][0].tolist() == [1002.0, 1004.0]


def test_a_state_without_adapters_is_left_alone():
    tensors = {"a.weight": torch.zeros(3, 2), "a.lora_free.down": torch.zeros(1)}
    assert merge_low_rank({"a.weight": tensors["a.weight"]})["a.weight"] is tensors["a.weight"]
    assert adapted_weight("lora_weight.down") is None  # no owner
    assert adapted_weights(state()) == ["a.weight"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a.lora_weight.up": torch.zeros(3, 2)}, "does not fit this weight of shape .3, 2."),
        ({"b.lora_weight.up": torch.zeros(3, 2)}, "adapter of 'b.weight' is incomplete: 'b.weight' is missing"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(CheckpointError, match=message):
        merge_low_rank(state(**changes))
