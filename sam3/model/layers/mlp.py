"""Multi-layer perceptrons."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them; dropout on the hidden activations.

    Args:
        widths: input, hidden and output widths, in order.
        residual: add the input to the output and normalise the sum (``out_norm``).
    """

    def __init__(self, *widths: int, dropout: float = 0.0, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.out_norm = nn.LayerNorm(widths[-1]) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., first width) -> (..., last width)."""
        hidden = x
        for layer in self.layers[:-1]:
            hidden = self.dropout(F.relu(layer(hidden)))
        out = self.layers[-1](hidden)
        return out if self.out_norm is None else self.out_norm(x + out)


class GeluMLP(nn.Module):
    """The two-layer perceptron of the ViT: Linear, exact GELU, Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return self.fc2(F.gelu(self.fc1(x)))
