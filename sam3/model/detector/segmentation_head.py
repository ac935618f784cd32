"""Masks from queries and the image pyramid (spec detector 12.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import DetectorConfig
from sam3.model.layers.attention import MultiHeadAttention
from sam3.model.layers.layer_list import LayerList
from sam3.model.layers.mlp import MLP

# Prompts are segmented in groups whose finest map stays below this many values (256 MiB in float32).
MAX_GROUP_VALUES = 2**26


class SegmentationHead(nn.Module):
    """Instance masks (one per query) and a semantic map (one per prompt)."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width = config.d_model
        self.cross_attend_prompt = MultiHeadAttention(width, config.num_heads)
        self.cross_attn_norm = nn.LayerNorm(width)
        self.pixel_decoder = PixelDecoder(config)
        self.mask_predictor = MaskPredictor(width)
        self.instance_seg_head = nn.Conv2d(width, width, 1)
        self.semantic_seg_head = nn.Conv2d(width, 1, 1)

    def forward(
        self,
        pyramid: list[Tensor],
        image_index: Tensor,
        memory: Tensor,
        prompt: Tensor,
        prompt_mask: Tensor,
        queries: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Segment P prompts.

        Args:
            pyramid: (B, C, h, w) maps, fine to coarse; the coarsest is replaced by the memory.
            image_index: (P,) row of the maps of each prompt.
            memory: (P, H * W, C) of the fusion encoder, H x W being the coarsest map.
            prompt: (P, S, C).
            prompt_mask: (P, S) bool, True = padding.
            queries: (P, Q, C) of the last decoder layer.

        Returns:
            Mask logits (P, Q, h, w) and semantic logits (P, 1, h, w) at the finest map's size.
        """
        group = len(queries)
        if not torch.is_grad_enabled():
            group = max(1, min(group, MAX_GROUP_VALUES // pyramid[0][0].numel()))
        parts = zip(*(x.split(group) for x in (image_index, memory, prompt, prompt_mask, queries)), strict=True)
        masks, semantic = zip(*(self._segment(pyramid, *part) for part in parts), strict=True)
        return (masks[0], semantic[0]) if len(masks) == 1 else (torch.cat(masks), torch.cat(semantic))

    def _segment(
        self,
        pyramid: list[Tensor],
        image_index: Tensor,
        memory: Tensor,
        prompt: Tensor,
        prompt_mask: Tensor,
        queries: Tensor,
    ) -> tuple[Tensor, Tensor]:
        pixels = self.embed_pixels(pyramid, image_index, memory, prompt, prompt_mask)
        return self._instance_masks(queries, pixels), self.semantic_seg_head(pixels)

    def embed_pixels(
        self, pyramid: list[Tensor], image_index: Tensor, memory: Tensor, prompt: Tensor, prompt_mask: Tensor
    ) -> Tensor:
        """(P, C, h, w) at the finest map's size: the memory, once more told the prompt, then upsampled."""
        attended = self.cross_attend_prompt(self.cross_attn_norm(memory), prompt, key_mask=prompt_mask)
        coarsest = (memory + attended).transpose(1, 2).unflatten(2, pyramid[-1].shape[-2:])
        maps = pyramid[:-1]
        if len(pyramid[0]) > 1:
            maps = [level[image_index] for level in maps]
        return self.pixel_decoder([*maps, coarsest])

    def _instance_masks(self, queries: Tensor, pixels: Tensor) -> Tensor:
        """(P, Q, C), (P, C, h, w) -> (P, Q, h, w).

        The 1x1 convolution of ``instance_seg_head`` is applied to the few queries instead of to every
        pixel: e (W p + b) = (e W) p + e b.
        """
        embeddings = self.mask_predictor(queries)
        weight, bias = self.instance_seg_head.weight.flatten(1), self.instance_seg_head.bias
        masks = torch.baddbmm((embeddings @ bias)[..., None], embeddings @ weight, pixels.flatten(2))
        return masks.unflatten(2, pixels.shape[-2:])


class PixelDecoder(nn.Module):
    """Coarse to fine: upsample, add the finer map, convolve.

    The released file holds one stage more than there are finer maps; it is kept and never used.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width, stages = config.d_model, config.pixel_decoder_stages
        self.conv_layers = LayerList(nn.Conv2d(width, width, 3, padding=1) for _ in range(stages))
        self.norms = nn.ModuleList(nn.GroupNorm(config.group_norm_groups, width) for _ in range(stages))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(P or 1, C, h, w) maps, fine to coarse -> (P, C, h, w) at the finest size."""
        x = maps[-1]
        for stage, finer in enumerate(reversed(maps[:-1])):
            x = self.conv_layers.run(self._stage, stage, x, finer)
        return x

    def _stage(self, stage: int, x: Tensor, finer: Tensor) -> Tensor:
        x = finer + F.interpolate(x, size=finer.shape[-2:], mode="nearest")
        return F.relu(self.norms[stage](self.conv_layers[stage](x)))


class MaskPredictor(nn.Module):
    """A query's weights over the pixel channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mask_embed = MLP(width, width, width, width)

    def forward(self, queries: Tensor) -> Tensor:
        """(P, Q, C) -> (P, Q, C)."""
        return self.mask_embed(queries)
