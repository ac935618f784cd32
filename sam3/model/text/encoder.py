"""The phrase encoder: a causal transformer over byte-pair tokens (spec detector 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import TextConfig
from sam3.errors import DataError
from sam3.model.layers.attention import MultiHeadAttention
from sam3.model.layers.layer_list import LayerList
from sam3.model.text.tokenizer import PAD_ID
from sam3.structures import TextFeatures


class TextEncoder(nn.Module):
    """Token ids to features of the detector's width."""

    def __init__(self, config: TextConfig, d_model: int) -> None:
        super().__init__()
        self.encoder = TextTransformer(config)
        self.resizer = nn.Linear(config.width, d_model)

    def forward(self, token_ids: Tensor) -> TextFeatures:
        """(T, S) long, 0 = padding -> features (T, S, C), mask (T, S), embeddings (T, S, width).

        Id 0 is also the token of a ``!`` inside a piece; the released weights were trained with it masked
        (spec detector 20, defect 18), so it stays masked.
        """
        embeddings = self.encoder.token_embedding(token_ids)
        features = self.resizer(self.encoder(embeddings))
        return TextFeatures(features=features, mask=token_ids == PAD_ID, embeddings=embeddings)


class TextTransformer(nn.Module):
    """Pre-norm causal transformer. Padding is not masked here: it lies behind every real token."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.zeros(config.context_length, config.width))
        self.text_projection = nn.Parameter(torch.zeros(config.width, config.projection_dim))  # in the file, unused
        self.transformer = TextBlocks(config)
        self.ln_final = nn.LayerNorm(config.width)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(T, S, width) -> (T, S, width)."""
        length, limit = embeddings.shape[1], len(self.positional_embedding)
        if length > limit:
            raise DataError(f"got phrases of {length} tokens; the text encoder holds {limit} positions")
        return self.ln_final(self.transformer(embeddings + self.positional_embedding[:length]))


class TextBlocks(nn.Module):
    """The stack of residual blocks."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.resblocks = LayerList(TextBlock(config) for _ in range(config.num_layers))

    def forward(self, x: Tensor) -> Tensor:
        """(T, S, width) -> (T, S, width)."""
        for block in self.resblocks:
            x = self.resblocks.run(block, x)
        return x


class TextBlock(nn.Module):
    """Causal self-attention and MLP."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = MultiHeadAttention(config.width, config.num_heads)
        self.ln_2 = nn.LayerNorm(config.width)
        self.mlp = TextMLP(config.width, int(config.width * config.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(T, S, width) -> (T, S, width)."""
        x = x + self.attn(self.ln_1(x), causal=True)
        return x + self.mlp(self.ln_2(x))


class TextMLP(nn.Module):
    """Linear, exact GELU, Linear, under the released names."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return self.c_proj(F.gelu(self.c_fc(x)))
