"""Multi-head attention with the parameters of ``torch.nn.MultiheadAttention``.

Batch first, fused kernels (``scaled_dot_product_attention``), attention weights never returned.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MultiHeadAttention(nn.Module):
    """softmax(q k^T / sqrt(head_dim) + bias) v, projected.

    Keys of the state dict: ``in_proj_weight`` (3C, C) with q, k, v stacked, ``in_proj_bias``, ``out_proj.*``.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d_model))
        self.out_proj = nn.Linear(d_model, d_model)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        key_mask: Tensor | None = None,
        bias: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Attend from ``query`` to ``key``.

        Args:
            query: (P, S, C).
            key: (P, K, C); left out, the query itself.
            value: (P, K, C); left out, the key.
            key_mask: (P, K) bool, True = ignore this key.
            bias: (P, heads, S, K) added to the logits; not together with ``key_mask``.
            causal: each position sees itself and what precedes it.

        Returns:
            (P, S, C).
        """
        key = query if key is None else key
        value = key if value is None else value
        q, k, v = (self._split_heads(x) for x in self._project(query, key, value))
        if key_mask is not None:
            bias = ~key_mask[:, None, None, :]
        elif bias is not None:
            bias = bias.to(q.dtype)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, is_causal=causal)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """The three projections, in as few matrix products as the inputs allow."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        width = weight.shape[1]
        if query is key and key is value:
            return F.linear(query, weight, bias).chunk(3, -1)
        if query is key:
            q, k = F.linear(query, weight[: 2 * width], bias[: 2 * width]).chunk(2, -1)
            return q, k, F.linear(value, weight[2 * width :], bias[2 * width :])
        q = F.linear(query, weight[:width], bias[:width])
        if key is value:
            return q, *F.linear(key, weight[width:], bias[width:]).chunk(2, -1)
        k = F.linear(key, weight[width : 2 * width], bias[width : 2 * width])
        return q, k, F.linear(value, weight[2 * width :], bias[2 * width :])

    def _split_heads(self, x: Tensor) -> Tensor:
        """(P, S, C) -> (P, heads, S, C / heads), a view."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
