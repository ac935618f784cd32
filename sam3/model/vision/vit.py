"""The image trunk: a plain ViT with windowed attention and a few global blocks (spec detector 5)."""

from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import VisionConfig
from sam3.errors import DataError
from sam3.model.layers.drop_path import DropPath
from sam3.model.layers.layer_list import LayerList
from sam3.model.layers.mlp import GeluMLP
from sam3.model.layers.rope import apply_rotary, rotary_table


class ViT(nn.Module):
    """Images to one map at 1 / patch_size. Accepts any height and width that the patch divides."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        pretrain_side = config.pretrain_image_size // config.patch_size
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + pretrain_side**2, config.embed_dim))
        self.patch_embed = PatchEmbedding(config)
        self.ln_pre = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        last = max(config.depth - 1, 1)
        self.blocks = LayerList(
            Block(config, is_global=index in config.global_blocks, drop_path=config.drop_path_rate * index / last)
            for index in range(config.depth)
        )
        self.num_used_blocks = 1 + max(config.global_blocks)  # nothing reads what would follow the last global one

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, D, H / patch, W / patch)."""
        x = self.patch_embed(images)
        x = self.ln_pre(x + self._absolute_positions(*x.shape[1:3]))
        for block in islice(self.blocks, self.num_used_blocks):
            x = self.blocks.run(block, x)
        return x.permute(0, 3, 1, 2)

    def rotary_tables(self) -> dict[str, Tensor]:
        """The complex tables that the reference reads from a weight file, for the configured image size.

        Returns:
            ``blocks.i.attn.freqs_cis`` -> (tokens, head_dim / 2) complex64, under the trunk's prefix.
        """
        side = self.config.grid_size
        return {
            f"blocks.{index}.attn.freqs_cis": block.attn.rotary_table(*(block.window_size or side,) * 2)
            for index, block in enumerate(self.blocks)
        }

    def _absolute_positions(self, height: int, width: int) -> Tensor:
        """(1, height, width, D): the pretraining grid repeated as tiles; its class row is never used."""
        tile = self.pos_embed[:, 1:]
        side = int(tile.shape[1] ** 0.5)
        tile = tile.unflatten(1, (side, side))
        return tile.repeat(1, -(-height // side), -(-width // side), 1)[:, :height, :width]


class PatchEmbedding(nn.Module):
    """Non-overlapping patches, each through one linear map."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.proj = nn.Conv2d(config.in_channels, config.embed_dim, config.patch_size, config.patch_size, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / patch, W / patch, D)."""
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise DataError(
                f"images are {height} x {width} pixels, but the network reads patches of {self.patch_size}: resize "
                f"both sides to multiples of {self.patch_size}"
            )
        return self.proj(images.to(self.proj.weight.dtype)).permute(0, 2, 3, 1)


class Block(nn.Module):
    """Pre-norm attention (in windows, or over the whole grid) and MLP."""

    def __init__(self, config: VisionConfig, *, is_global: bool, drop_path: float) -> None:
        super().__init__()
        self.window_size = None if is_global else config.window_size
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.mlp = GeluMLP(config.embed_dim, config.mlp_dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) -> (B, H, W, D)."""
        height, width = x.shape[1:3]
        y = self.norm1(x)
        if self.window_size is None:
            y = self.attn(y)
        else:
            y = join_windows(self.attn(split_windows(y, self.window_size)), height, width)
        x = x + self.drop_path(y)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Attention(nn.Module):
    """Multi-head self-attention of a grid of tokens, rotary positions on query and key."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.window_size = config.window_size
        self.rope_theta = config.rope_theta
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) -> (B, H, W, D)."""
        batch, height, width, channels = x.shape
        head_dim = channels // self.num_heads
        qkv = self.qkv(x).view(batch, height * width, 3, self.num_heads, head_dim)
        query, key = apply_rotary(qkv[:, :, :2], self.rotary_table(height, width)).permute(2, 0, 3, 1, 4)
        value = qkv[:, :, 2].transpose(1, 2)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).reshape(batch, height, width, channels))

    def rotary_table(self, height: int, width: int) -> Tensor:
        """(height * width, head_dim / 2) complex64, computed once per grid and kept out of the state dict."""
        head_dim = self.proj.in_features // self.num_heads
        device = self.proj.bias.device
        return rotary_table(height, width, head_dim, window=self.window_size, theta=self.rope_theta, device=device)


def split_windows(x: Tensor, size: int) -> Tensor:
    """(B, H, W, D) -> (B * windows, size, size, D), zero-padded at the bottom and right."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size)) if height % size or width % size else x
    windows = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))  # (B, rows, size, columns, size, D)
    return windows.transpose(2, 3).flatten(0, 2)


def join_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Inverse of :func:`split_windows`: (B * windows, size, size, D) -> (B, height, width, D), padding cut off."""
    size = windows.shape[1]
    rows, columns = -(-height // size), -(-width // size)
    grid = windows.unflatten(0, (-1, rows, columns)).transpose(2, 3)
    return grid.flatten(3, 4).flatten(1, 2)[:, :height, :width]
