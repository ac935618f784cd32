"""Adapters on live modules."""

import copy

import pytest
import torch
from torch import nn

from sam3.errors import ConfigError
from sam3.io.low_rank import merge_low_rank
from sam3.model.layers.attention import MultiHeadAttention
from sam3.model.low_rank import add_adapters, has_adapters


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = MultiHeadAttention(8, 2)
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return self.linear(self.attn(x))


@pytest.fixture
def block():
    torch.manual_seed(0)
    return Block()


def test_released_names_stay_and_the_output_begins_unchanged(block):
    x = torch.randn(2, 3, 8)
    names, before = list(block.state_dict()), block(x)
    assert add_adapters(block, ["*in_proj_weight", "linear.weight"], rank=2, alpha=4) == [
        "attn.in_proj_weight",
        "linear.weight",
    ]
    assert [name for name in block.state_dict() if ".lora_" not in name] == names
    assert "attn.lora_in_proj_weight.down" in block.state_dict()
    assert torch.equal(block(x), before)


def test_adapters_get_gradients_through_fused_projections_and_merge_to_the_same_answer(block):
    x = torch.randn(2, 3, 8)
    add_adapters(block, ["*in_proj_weight", "linear.weight"], rank=2, alpha=4)
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            if name.endswith(".up"):
                parameter.normal_()
    output = block(x)
    output.sum().backward()
    assert all(p.grad.any() for name, p in block.named_parameters() if ".lora_" in name)
    merged = Block()
    merged.load_state_dict(merge_low_rank(block.state_dict()))
    torch.testing.assert_close(merged(x), output, rtol=0, atol=1e-6)


def test_copies_carry_their_adapters(block):
    add_adapters(block, ["linear.weight"], rank=1, alpha=1)
    twin = copy.deepcopy(block)
    with torch.no_grad():
        twin.linear.lora_weight.up.fill_(1.0)
    assert has_adapters(twin)
    assert not torch.equal(twin.linear.weight, block.linear.weight)


def test_targets_must_be_matrices(block):
    with pytest.raises(ConfigError, match="pattern '.*bias' matches no matrix"):
        add_adapters(block, ["*bias"], rank=1, alpha=1)
    assert not has_adapters(block)
