"""Multi-layer perceptron, stochastic depth, checkpointed lists."""

import pytest
import torch
from torch import nn

from sam3.errors import ConfigError
from sam3.model.layers.drop_path import DropPath
from sam3.model.layers.layer_list import LayerList, set_activation_checkpointing
from sam3.model.layers.mlp import MLP
from tests.small_checkpoint import small_model


def test_mlp_is_linear_relu_linear() -> None:
    mlp = MLP(3, 5, 2)
    x = torch.randn(4, 3)
    first, second = mlp.layers
    torch.testing.assert_close(mlp(x), second(first(x).relu()))
    assert list(mlp.state_dict()) == ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]


def test_residual_mlp_adds_and_normalises() -> None:
    mlp = MLP(4, 6, 4, residual=True)
    x = torch.randn(2, 4)
    plain = mlp.layers[1](mlp.layers[0](x).relu())
    torch.testing.assert_close(mlp(x), mlp.out_norm(x + plain))


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = DropPath(0.25).train()(torch.ones(4000, 3))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped == dropped[:, :1]).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)


def test_drop_path_is_the_identity_in_evaluation() -> None:
    x = torch.randn(3, 2)
    assert DropPath(0.9).eval()(x) is x


def test_layer_list_checkpoints_only_when_gradients_are_wanted() -> None:
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            Counting.calls += 1
            return super().forward(x)

    layers = LayerList([Counting(2, 2)])
    set_activation_checkpointing(nn.Sequential(layers), True)
    layers.run(layers[0], torch.ones(1, 2)).sum().backward()
    assert Counting.calls == 2  # forward, and again in backward
    layers.eval()
    layers.run(layers[0], torch.ones(1, 2))
    assert Counting.calls == 3


def test_activation_checkpointing_of_all_parts_of_the_trunk_or_of_none() -> None:
    model = small_model()
    chosen = {}
    for parts in ("none", "vision", "all", True, False):
        set_activation_checkpointing(model, parts)
        lists = {name: m.activation_checkpointing for name, m in model.named_modules() if isinstance(m, LayerList)}
        chosen[parts] = {name for name, is_on in lists.items() if is_on}
    assert chosen["none"] == chosen[False] == set()
    assert chosen["vision"] == {"backbone.vision_backbone.trunk.blocks"}
    assert chosen["all"] == chosen[True] == set(lists)
    with pytest.raises(ConfigError, match="'text'; expected none, vision, all"):
        set_activation_checkpointing(model, "text")
