"""Multi-head attention whose three inputs have projections of their own, as in SAM 1 and SAM 2."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3.model.layers.rope import apply_rotary


class ProjectedAttention(nn.Module):
    """softmax(q k^T / sqrt(head_dim)) v, projected.

    Keys of the state dict: ``q_proj``, ``k_proj``, ``v_proj``, ``out_proj``.

    Args:
        width: of the queries and the output.
        num_heads: they share ``inner_width``.
        inner_width: of the projections; left out, ``width``.
        key_width: of keys and values; left out, ``width``.
    """

    def __init__(
        self, width: int, num_heads: int, *, inner_width: int | None = None, key_width: int | None = None
    ) -> None:
        super().__init__()
        inner_width, key_width = inner_width or width, key_width or width
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, inner_width)
        self.k_proj = nn.Linear(key_width, inner_width)
        self.v_proj = nn.Linear(key_width, inner_width)
        self.out_proj = nn.Linear(inner_width, width)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, rotary: Tensor | None = None, num_unrotated_keys: int = 0
    ) -> Tensor:
        """Attend from ``query`` to ``key``.

        Args:
            query: (B, S, C).
            key, value: (B, K, key_width).
            rotary: (S, head_dim / 2) complex rotations of the queries; repeated over the keys, whose number without
                the unrotated ones must be a multiple of S.
            num_unrotated_keys: keys at the end that stand nowhere.

        Returns:
            (B, S, C).
        """
        q, k, v = (self._split_heads(x) for x in (self.q_proj(query), self.k_proj(key), self.v_proj(value)))
        if rotary is not None:
            q, k = _rotate(q, rotary), _rotate(k, rotary, num_unrotated_keys)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, S, C) -> (B, heads, S, C / heads), a view."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _rotate(x: Tensor, rotary: Tensor, num_unrotated: int = 0) -> Tensor:
    """(B, heads, K, head_dim) with all but the last positions rotated, grid after grid."""
    placed = x.shape[2] - num_unrotated
    assert placed % len(rotary) == 0, f"{placed} keys are no whole number of grids of {len(rotary)} tokens"
    if not placed:
        return x
    grids = x[:, :, :placed].unflatten(2, (-1, len(rotary))).flatten(0, 2)  # (B * heads * grids, tokens, head_dim)
    turned = apply_rotary(grids, rotary).unflatten(0, (*x.shape[:2], -1)).flatten(2, 3)
    return torch.cat([turned, x[:, :, placed:]], 2) if num_unrotated else turned
