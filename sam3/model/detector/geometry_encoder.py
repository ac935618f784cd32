"""Example boxes and points become prompt tokens (spec detector 7)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import DetectorConfig
from sam3.model.layers.fusion_layer import FusionLayer
from sam3.model.layers.layer_list import LayerList
from sam3.model.layers.position import encode_coordinates
from sam3.ops.boxes import box_cxcywh_to_xyxy
from sam3.ops.roi_align import roi_align
from sam3.ops.sequences import concat_padded
from sam3.structures import GeometricPrompt


class GeometryEncoder(nn.Module):
    """One token per point and box plus a class token, each informed by the others and by the image."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width = config.d_model
        self.d_model = width
        self.roi_size = config.roi_size
        self.label_embed = nn.Embedding(2, width)
        self.cls_embed = nn.Embedding(1, width)
        self.points_direct_project = nn.Linear(2, width)
        self.points_pool_project = nn.Linear(width, width)
        self.points_pos_enc_project = nn.Linear(width, width)
        self.boxes_direct_project = nn.Linear(4, width)
        self.boxes_pool_project = nn.Conv2d(width, width, config.roi_size)
        self.boxes_pos_enc_project = nn.Linear(width + 2, width)
        self.final_proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.img_pre_norm = nn.LayerNorm(width)
        self.encode = LayerList(GeometryLayer(config) for _ in range(config.geometry_layers))
        self.encode_norm = nn.LayerNorm(width)

    def forward(
        self, prompt: GeometricPrompt, level: Tensor, position: Tensor, image_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode the geometry of P prompts.

        Args:
            prompt: boxes and points of the P prompts.
            level: (B, C, h, w) coarsest map of the pyramid.
            position: (1, h * w, C) its sine encoding.
            image_index: (P,) row of ``level`` of each prompt.

        Returns:
            (P, Np + Nb + 1, C) and its mask. The class token stands behind the last valid item and is always valid.
        """
        tokens, mask = self._embed(prompt, level, image_index)
        tokens = self.norm(self.final_proj(tokens))
        image = level.flatten(2).transpose(1, 2)
        image = image if len(image) == 1 else image[image_index]
        located = image + position
        for layer in self.encode:
            tokens = self.encode.run(layer, tokens, mask, located, image)
        return self.encode_norm(tokens), mask

    def _embed(self, prompt: GeometricPrompt, level: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor]:
        """Points, then boxes, then the class token, each the sum of what is known about it."""
        tokens = self.cls_embed.weight.expand(len(prompt), 1, -1)
        mask = prompt.box_mask.new_zeros(len(prompt), 1)
        # Training runs the empty branches too, so that every worker has a (zero) gradient for them.
        if prompt.boxes.shape[1] or prompt.points.shape[1] or self.training:
            pooled_from = self.img_pre_norm(level.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            points = self._embed_points(prompt, pooled_from, image_index)
            boxes = self._embed_boxes(prompt, pooled_from, image_index)
            items, item_mask = concat_padded(points, prompt.point_mask, boxes, prompt.box_mask)
            tokens, mask = concat_padded(items, item_mask, tokens, mask)
        return tokens, mask

    def _embed_points(self, prompt: GeometricPrompt, features: Tensor, image_index: Tensor) -> Tensor:
        """(P, Np, C): coordinates, the map's value there, their sine encoding (x, y), the label."""
        dtype, points = features.dtype, prompt.points
        sampled = features.new_zeros(*points.shape[:2], self.d_model)
        if points.shape[1]:  # else spare the copy of a map for every prompt
            grid = (2 * points.float() - 1)[:, :, None]
            sampled = F.grid_sample(features.float()[image_index], grid, align_corners=False)[..., 0].transpose(1, 2)
        encoded = encode_coordinates(points, self.d_model // 2).flatten(-2)
        return (
            self.points_direct_project(points.to(dtype))
            + self.points_pool_project(sampled.to(dtype))
            + self.points_pos_enc_project(encoded.to(dtype))
            + self.label_embed(prompt.point_labels.long())
        )

    def _embed_boxes(self, prompt: GeometricPrompt, features: Tensor, image_index: Tensor) -> Tensor:
        """(P, Nb, C): coordinates, the pooled region, the sine encoding (y, x) with height and width, the label."""
        dtype, boxes = features.dtype, prompt.boxes
        height, width = features.shape[-2:]
        cells = box_cxcywh_to_xyxy(boxes.float()) * boxes.new_tensor([width, height, width, height])
        region = roi_align(features, cells.flatten(0, 1), image_index.repeat_interleave(boxes.shape[1]), self.roi_size)
        pooled = self.boxes_pool_project(region).view(*boxes.shape[:2], self.d_model)
        encoded = encode_coordinates(boxes[..., [1, 0]], self.d_model // 2).flatten(-2)
        encoded = torch.cat([encoded, boxes[..., [3, 2]]], -1)
        return (
            self.boxes_direct_project(boxes.to(dtype))
            + pooled
            + self.boxes_pos_enc_project(encoded.to(dtype))
            + self.label_embed(prompt.box_labels.long())
        )


class GeometryLayer(FusionLayer):
    """Prompt tokens attend to each other and to the image."""

    def forward(self, tokens: Tensor, mask: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(P, S, C), (P, S), image keys and values (P or 1, K, C) -> (P, S, C)."""
        tokens = self.attend_to_self(tokens, mask=mask)
        if len(value) == len(tokens):
            return self.attend_to_context(tokens, key, value)
        # One image for all prompts: their tokens form one sequence, and the image is projected once.
        return self.attend_to_context(tokens.flatten(0, 1)[None], key, value).view_as(tokens)
