"""Masks from queries and the image pyramid (spec detector 12.1)."""

import torch
from torch import Tensor, nn

from sam3.config import DetectorConfig
from sam3.model.detector.pixel_decoder import PixelDecoder, SharedStage
from sam3.model.layers.attention import MultiHeadAttention
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
        group, shared = len(queries), None
        if not torch.is_grad_enabled():
            group = max(1, min(group, MAX_GROUP_VALUES // pyramid[0][0].numel()))
            if len(queries) > 2 * len(pyramid[0]):
                shared = self.pixel_decoder.share(pyramid[-1].shape[-2:], pyramid[:-1])
        parts = zip(*(x.split(group) for x in (image_index, memory, prompt, prompt_mask, queries)), strict=True)
        masks, semantic = zip(*(self._segment(pyramid, shared, *part) for part in parts), strict=True)
        return (masks[0], semantic[0]) if len(masks) == 1 else (torch.cat(masks), torch.cat(semantic))

    def _segment(
        self,
        pyramid: list[Tensor],
        shared: list[SharedStage] | None,
        image_index: Tensor,
        memory: Tensor,
        prompt: Tensor,
        prompt_mask: Tensor,
        queries: Tensor,
    ) -> tuple[Tensor, Tensor]:
        pixels = self.embed_pixels(pyramid, image_index, memory, prompt, prompt_mask, shared=shared)
        return self._instance_masks(queries, pixels), self.semantic_seg_head(pixels)

    def embed_pixels(
        self,
        pyramid: list[Tensor],
        image_index: Tensor,
        memory: Tensor,
        prompt: Tensor,
        prompt_mask: Tensor,
        *,
        shared: list[SharedStage] | None = None,
    ) -> Tensor:
        """(P, C, h, w) at the finest map's size: the memory, once more told the prompt, then upsampled.

        ``shared`` holds what was computed once per image, if prompts outnumber the images.
        """
        attended = self.cross_attend_prompt(self.cross_attn_norm(memory), prompt, key_mask=prompt_mask)
        coarsest = (memory + attended).transpose(1, 2).unflatten(2, pyramid[-1].shape[-2:])
        if shared is not None:
            return self.pixel_decoder.forward_shared(coarsest, shared, image_index)
        finer = pyramid[:-1]
        if len(pyramid[0]) > 1:
            finer = [level[image_index] for level in finer]
        return self.pixel_decoder(coarsest, finer)

    def _instance_masks(self, queries: Tensor, pixels: Tensor) -> Tensor:
        """(P, Q, C), (P, C, h, w) -> (P, Q, h, w).

        The 1x1 convolution of ``instance_seg_head`` is applied to the few queries instead of to every
        pixel: e (W p + b) = (e W) p + e b.
        """
        embeddings = self.mask_predictor(queries)
        weight, bias = self.instance_seg_head.weight.flatten(1), self.instance_seg_head.bias
        masks = torch.baddbmm((embeddings @ bias)[..., None], embeddings @ weight, pixels.flatten(2))
        return masks.unflatten(2, pixels.shape[-2:])


class MaskPredictor(nn.Module):
    """A query's weights over the pixel channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mask_embed = MLP(width, width, width, width)

    def forward(self, queries: Tensor) -> Tensor:
        """(P, Q, C) -> (P, Q, C)."""
        return self.mask_embed(queries)
