"""Stochastic depth."""

from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a whole residual branch per sample while training, scaling the survivors (arXiv 1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...), some rows zero."""
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        return x * (x.new_empty([len(x)] + [1] * (x.dim() - 1)).bernoulli_(keep) / keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"
