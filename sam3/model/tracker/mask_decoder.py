"""Image embedding and prompt -> masks, their quality, and whether the object is there (spec/tracker_video.md 2.4)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import TrackerConfig
from sam3.model.layers.mlp import MLP
from sam3.model.layers.norm import LayerNorm2d
from sam3.model.tracker.two_way_transformer import TwoWayTransformer


@dataclass
class DecodedMasks:
    """M masks of each of B prompts: 3 with ``multimask``, else 1."""

    masks: Tensor  # (B, M, 4 h, 4 w) logits
    ious: Tensor  # (B, M) predicted quality
    tokens: Tensor  # (B, M, C) of the masks
    object_score_logits: Tensor  # (B, 1), positive = the object is in the image


class MaskDecoder(nn.Module):
    """Attribute names are the keys of the released weights."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        width = config.d_model
        self.config = config
        num_masks = config.num_multimask_outputs + 1
        self.transformer = TwoWayTransformer(config)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(num_masks, width)
        self.obj_score_token = nn.Embedding(1, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, 2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, 2),
            nn.GELU(),
        )
        self.conv_s0 = nn.Conv2d(width, width // 8, 1)
        self.conv_s1 = nn.Conv2d(width, width // 4, 1)
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(width, width, width, width // 8) for _ in range(num_masks))
        hidden = [config.iou_head_hidden_dim] * (config.iou_head_depth - 1)
        self.iou_prediction_head = MLP(width, *hidden, num_masks)
        self.pred_obj_score_head = MLP(width, width, width, 1)

    def skips(self, fine: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
        """The two finer pyramid levels (B, C, 4 h, 4 w) and (B, C, 2 h, 2 w) as the up-scaling adds them."""
        return self.conv_s0(fine), self.conv_s1(middle)

    def forward(
        self,
        image: Tensor,
        image_code: Tensor,
        sparse: Tensor,
        dense: Tensor,
        *,
        skips: tuple[Tensor, Tensor],
        multimask: bool,
    ) -> DecodedMasks:
        """
        Args:
            image: (B or 1, C, h, w) embedding.
            image_code: (1, C, h, w).
            sparse: (B, T, C) prompt tokens.
            dense: (B, C, h, w) prompt map.
            skips: see :meth:`skips`, each for B images or for 1.
            multimask: three masks instead of one.
        """
        every = self.decode_all(image, image_code, sparse, dense, skips)
        if multimask:
            return DecodedMasks(every.masks[:, 1:], every.ious[:, 1:], every.tokens[:, 1:], every.object_score_logits)
        if self.training or not self.config.dynamic_multimask:
            return DecodedMasks(every.masks[:, :1], every.ious[:, :1], every.tokens[:, :1], every.object_score_logits)
        return self.stable_or_best(every)

    def decode_all(
        self, image: Tensor, image_code: Tensor, sparse: Tensor, dense: Tensor, skips: tuple[Tensor, Tensor]
    ) -> DecodedMasks:
        """All four masks: number 0 for a prompt that leaves no doubt, 1 to 3 for one that does."""
        rows = len(sparse)
        own = [self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight]
        tokens = torch.cat([torch.cat(own).expand(rows, -1, -1), sparse.to(own[0].dtype)], 1)
        mixed = image + dense
        tokens, mixed_tokens = self.transformer(
            tokens, mixed.flatten(2).transpose(1, 2), image_code.flatten(2).transpose(1, 2).to(mixed.dtype)
        )
        mask_tokens = tokens[:, 2 : 2 + self.mask_tokens.num_embeddings]
        pixels = self._upscale(mixed_tokens.transpose(1, 2).unflatten(2, mixed.shape[-2:]), skips)
        kernels = torch.stack(
            [mlp(mask_tokens[:, index]) for index, mlp in enumerate(self.output_hypernetworks_mlps)], 1
        )
        ious = self.iou_prediction_head(tokens[:, 1])
        return DecodedMasks(
            masks=(kernels @ pixels.flatten(2)).unflatten(2, pixels.shape[-2:]),
            ious=ious.sigmoid() if self.config.iou_sigmoid else ious,
            tokens=mask_tokens,
            object_score_logits=self.pred_obj_score_head(tokens[:, 0]),
        )

    def _upscale(self, image: Tensor, skips: tuple[Tensor, Tensor]) -> Tensor:
        """(B, C, h, w) -> (B, C / 8, 4 h, 4 w)."""
        first, norm, _, second, _ = self.output_upscaling
        image = F.gelu(norm(first(image) + skips[1]))
        return F.gelu(second(image) + skips[0])

    def stable_or_best(self, every: DecodedMasks) -> DecodedMasks:
        """Mask 0 where its outline does not depend on the threshold, else the best of the others; always token 0."""
        is_stable = self.stability(every.masks[:, 0]) >= self.config.stability_threshold
        best = torch.where(is_stable, 0, 1 + every.ious[:, 1:].argmax(1))
        rows = torch.arange(len(best), device=best.device)
        return DecodedMasks(
            masks=every.masks[rows, best][:, None],
            ious=every.ious[rows, best][:, None],
            tokens=every.tokens[:, :1],
            object_score_logits=every.object_score_logits,
        )

    def stability(self, masks: Tensor) -> Tensor:
        """(B, H, W) logits -> (B,): area above +delta by area above -delta; 1 without the latter."""
        delta = self.config.stability_delta
        inner, outer = (masks > delta).flatten(1).sum(1).float(), (masks > -delta).flatten(1).sum(1).float()
        return torch.where(outer > 0, inner / outer, torch.ones_like(outer))
