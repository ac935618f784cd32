"""Prompt tokens and image attend to each other (spec/tracker_video.md 2.3)."""

import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import TrackerConfig
from sam3.model.layers.projected_attention import ProjectedAttention


class TwoWayTransformer(nn.Module):
    """Layers in both directions, then once more from the tokens to the image."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        width = config.d_model
        self.layers = nn.ModuleList(TwoWayLayer(config, is_first=not i) for i in range(config.decoder_layers))
        self.final_attn_token_to_image = _cross_attention(config)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, image: Tensor, image_code: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            tokens: (B, T, C); they are their own position code.
            image: (B, h * w, C).
            image_code: (1, h * w, C).

        Returns:
            Both, updated.
        """
        code = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, code, image_code)
        attended = self.final_attn_token_to_image(tokens + code, image + image_code, image)
        return self.norm_final_attn(tokens + attended), image


class TwoWayLayer(nn.Module):
    """Tokens among themselves, tokens to image, tokens alone, image to tokens."""

    def __init__(self, config: TrackerConfig, *, is_first: bool) -> None:
        super().__init__()
        width = config.d_model
        self.is_first = is_first
        self.self_attn = ProjectedAttention(width, config.decoder_heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = _cross_attention(config)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = TokenMLP(width, config.decoder_mlp_dim)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = _cross_attention(config)

    def forward(self, tokens: Tensor, image: Tensor, code: Tensor, image_code: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes as in :class:`TwoWayTransformer`."""
        if self.is_first:  # the tokens are their own code, and nothing is added to nothing
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens))
        else:
            placed = tokens + code
            tokens = self.norm1(tokens + self.self_attn(placed, placed, tokens))
        placed_image = image + image_code
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + code, placed_image, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(placed_image, tokens + code, tokens))
        return tokens, image


class TokenMLP(nn.Module):
    """Linear, ReLU, Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.lin2(F.relu(self.lin1(x)))


def _cross_attention(config: TrackerConfig) -> ProjectedAttention:
    return ProjectedAttention(
        config.d_model, config.decoder_heads, inner_width=config.d_model // config.attention_downsample_rate
    )
