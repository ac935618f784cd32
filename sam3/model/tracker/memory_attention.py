"""The current frame attends to what is remembered of earlier ones (spec/tracker_video.md 2.8)."""

import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import TrackerConfig
from sam3.model.layers.projected_attention import ProjectedAttention
from sam3.model.layers.rope import rotary_table

POSITION_WEIGHT = 0.1  # of the additive code, once at the input


class MemoryAttention(nn.Module):
    """Attribute names are the keys of the released weights."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(MemoryAttentionLayer(config) for _ in range(config.memory_attention_layers))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        *,
        grid: tuple[int, int],
        num_pointers: int = 0,
    ) -> Tensor:
        """
        Args:
            x: (B, h * w, C) top level of the frame.
            position: (1 or B, h * w, C).
            memory, memory_position: (B, L, Cm): maps of h * w tokens each, then the pointers.
            grid: (h, w).
            num_pointers: tokens at the end of the memory that stand nowhere.

        Returns:
            (B, h * w, C).
        """
        height, width = grid
        head_dim = self.config.d_model // self.config.memory_attention_heads
        rotary = rotary_table(height, width, head_dim, window=height, theta=self.config.rope_theta, device=x.device)
        x = x + POSITION_WEIGHT * position
        keys = memory + memory_position
        for layer in self.layers:
            x = layer(x, keys, memory, rotary, num_pointers)
        return self.norm(x)


class MemoryAttentionLayer(nn.Module):
    """Within the frame, to the memory, alone; each with its norm before and its residual."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        width, heads = config.d_model, config.memory_attention_heads
        self.self_attn = ProjectedAttention(width, heads)
        self.cross_attn_image = ProjectedAttention(width, heads, key_width=config.memory_dim)
        self.linear1 = nn.Linear(width, config.memory_attention_mlp_dim)
        self.linear2 = nn.Linear(config.memory_attention_mlp_dim, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.memory_attention_dropout)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, rotary: Tensor, num_pointers: int) -> Tensor:
        """(B, S, C) with keys and values (B, L, Cm) -> (B, S, C)."""
        y = self.norm1(x)
        x = x + self.dropout(self.self_attn(y, y, y, rotary=rotary))
        y = self.norm2(x)
        attended = self.cross_attn_image(y, keys, values, rotary=rotary, num_unrotated_keys=num_pointers)
        x = x + self.dropout(attended)
        y = self.norm3(x)
        return x + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(y)))))
