"""The pre-norm layer shared by the geometry encoder and the fusion encoder."""

import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import DetectorConfig
from sam3.model.layers.attention import MultiHeadAttention


class FusionLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward; each on the normed input, added to the input.

    Despite its released name ``cross_attn_image`` attends to whatever is given: the image in the geometry
    encoder, the prompt in the fusion encoder (spec detector 7.4 and 9).
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width, dropout = config.d_model, config.dropout
        self.self_attn = MultiHeadAttention(width, config.num_heads, dropout)
        self.cross_attn_image = MultiHeadAttention(width, config.num_heads, dropout)
        self.linear1 = nn.Linear(width, config.dim_feedforward)
        self.linear2 = nn.Linear(config.dim_feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def attend_to_self(self, x: Tensor, *, position: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """(P, S, C) -> (P, S, C). ``position`` is added to query and key only; ``mask`` (P, S) True = padding."""
        normed = self.norm1(x)
        located = normed if position is None else normed + position
        return x + self.dropout(self.self_attn(located, located, normed, key_mask=mask))

    def attend_to_context(self, x: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Cross-attention and feed-forward: (P, S, C) with keys and values (P, K, C) -> (P, S, C)."""
        x = x + self.dropout(self.cross_attn_image(self.norm2(x), key, value, key_mask=mask))
        hidden = self.dropout(F.relu(self.linear1(self.norm3(x))))
        return x + self.dropout(self.linear2(hidden))
