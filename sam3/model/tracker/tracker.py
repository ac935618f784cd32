"""The tracker: prompts or memories of B objects and one frame -> masks, pointers, and what to remember.

A module without state: whoever calls keeps the memories (:mod:`sam3.model.tracker.memory_bank`). Attribute names are
the keys of the released weights below ``tracker.``. Source: spec/tracker_video.md 2 and 3.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import TrackerConfig
from sam3.model.layers.mlp import MLP
from sam3.model.layers.position import encode_map, encode_offsets
from sam3.model.tracker.mask_decoder import MaskDecoder
from sam3.model.tracker.memory_attention import MemoryAttention
from sam3.model.tracker.memory_bank import Recall
from sam3.model.tracker.memory_encoder import MemoryEncoder
from sam3.model.tracker.prompt_encoder import PADDING, PromptEncoder

NO_OBJECT = -1024.0  # logit of every pixel where there is no object
_PROMPT_LOGIT = 10.0  # of the pixels of a mask that was given


@dataclass
class TrackerFeatures:
    """What the tracker sees of one frame; made once, whatever the number of objects."""

    top: Tensor  # (1, C, h, w) raw level of the tracker's pyramid
    skips: tuple[Tensor, Tensor]  # (1, C / 8, 4 h, 4 w) and (1, C / 4, 2 h, 2 w)

    @property
    def grid(self) -> tuple[int, int]:
        return self.top.shape[-2], self.top.shape[-1]


@dataclass
class TrackedMasks:
    """The tracker's answer for B objects on one frame; M = 3 candidates or 1."""

    candidates: Tensor  # (B, M, 4 h, 4 w) logits
    ious: Tensor  # (B, M) predicted quality
    low_res: Tensor  # (B, 1, 4 h, 4 w) the chosen one
    pointers: Tensor  # (B, C)
    object_score_logits: Tensor  # (B, 1)


class Tracker(nn.Module):
    """Attribute names are the keys of the released weights."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        width, memory_dim = config.d_model, config.memory_dim
        self.config = config
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(config.num_maskmem, 1, 1, memory_dim))
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, width))  # in the file, never read
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, width))
        self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, memory_dim))
        self.mask_downsample = nn.Conv2d(1, 1, 4, 4)
        self.transformer = MemoryTransformer(config)
        self.maskmem_backbone = MemoryEncoder(config)
        self.sam_prompt_encoder = PromptEncoder(config)
        self.sam_mask_decoder = MaskDecoder(config)
        self.obj_ptr_proj = MLP(width, width, width, width)
        self.obj_ptr_tpos_proj = nn.Linear(width, memory_dim)
        for parameter in (self.maskmem_tpos_enc, self.no_mem_embed, self.no_mem_pos_enc, self.no_obj_ptr):
            nn.init.trunc_normal_(parameter, std=0.02)
        nn.init.trunc_normal_(self.no_obj_embed_spatial, std=0.02)

    def features(self, pyramid: list[Tensor]) -> TrackerFeatures:
        """The tracker's pyramid of one image, three levels (1, C, ., .) fine to coarse."""
        return TrackerFeatures(pyramid[2], self.sam_mask_decoder.skips(pyramid[0], pyramid[1]))

    # --- one frame ---

    def without_memory(self, features: TrackerFeatures) -> Tensor:
        """(1, C, h, w): the embedding of a frame that remembers nothing."""
        return features.top + self.no_mem_embed.reshape(1, -1, 1, 1)

    def with_memory(self, features: TrackerFeatures, remembered: Recall, num_objects: int) -> Tensor:
        """(B, C, h, w): the embedding of a frame in the light of what is remembered of B objects."""
        if not remembered.maps:
            return self.without_memory(features).expand(num_objects, -1, -1, -1)
        height, width = features.grid
        memory, position = self._memory_tokens(remembered, features.grid)
        num_pointers = memory.shape[1] - len(remembered.maps) * height * width
        frame = features.top.flatten(2).transpose(1, 2).expand(num_objects, -1, -1)
        code = encode_map(height, width, self.config.d_model, frame.device, frame.dtype)
        attended = self.transformer.encoder(
            frame,
            code.flatten(2).transpose(1, 2),
            memory.to(frame.dtype),
            position.to(frame.dtype),
            grid=features.grid,
            num_pointers=num_pointers,
        )
        return attended.transpose(1, 2).unflatten(2, features.grid)

    def segment(
        self,
        embedding: Tensor,
        features: TrackerFeatures,
        *,
        points: tuple[Tensor, Tensor] | None = None,
        masks: Tensor | None = None,
        multimask: bool,
        present: Tensor | None = None,
    ) -> TrackedMasks:
        """Masks of B objects (spec/tracker_video.md 2.5).

        Args:
            embedding: (B or 1, C, h, w); see :meth:`with_memory`.
            points: (B, K, 2) xy in model pixels and (B, K) labels; left out, the memory alone says what is meant.
            masks: (B, 1, H, W) logits of a rough mask.
            multimask: choose the best of three candidates.
            present: (B, 1) bool, which objects are there, where that is known (in training); left out, the object
                score decides.
        """
        rows = max(len(embedding), len(points[0]) if points is not None else 0, len(masks) if masks is not None else 0)
        if points is None:
            nothing = embedding.new_zeros(rows, 1, 2, dtype=torch.float32)
            points = nothing, torch.full((rows, 1), PADDING, device=embedding.device)
        if masks is not None and masks.shape[-1] != self.config.low_res_size:
            masks = resize_antialiased(masks, self.config.low_res_size)
        sparse, dense = self.sam_prompt_encoder(points=points, masks=masks, grid=features.grid)
        decoded = self.sam_mask_decoder(
            embedding,
            self.sam_prompt_encoder.dense_code(features.grid),
            sparse,
            dense,
            skips=features.skips,
            multimask=multimask,
        )
        is_present = decoded.object_score_logits > 0 if present is None else present
        candidates = torch.where(is_present[:, :, None, None], decoded.masks, NO_OBJECT).float()
        best = decoded.ious.argmax(1)
        index = torch.arange(len(best), device=best.device)
        return TrackedMasks(
            candidates=candidates,
            ious=decoded.ious,
            low_res=candidates[index, best][:, None],
            pointers=self._pointers(decoded.tokens[index, best if multimask else 0], is_present),
            object_score_logits=decoded.object_score_logits,
        )

    def use_mask(self, masks: Tensor, features: TrackerFeatures) -> TrackedMasks:
        """Take masks that were given for B objects as the answer (spec/tracker_video.md 2.6).

        Args:
            masks: (B, 1, H, W), 1 inside; soft values are kept.
        """
        masks = masks.float()
        logits = self.config.mask_scale * masks + self.config.mask_bias
        side = masks.shape[-1] // self.config.patch_size * 4
        is_present = masks.flatten(1).any(1, keepdim=True)
        pointers = self.read_mask(masks, features).pointers
        return TrackedMasks(
            candidates=resize_antialiased(logits, side),
            ious=masks.new_ones(len(masks), 1),
            low_res=resize_antialiased(logits, side),
            pointers=torch.where(is_present, pointers, self.no_obj_ptr.to(pointers.dtype)),
            object_score_logits=torch.where(is_present, _PROMPT_LOGIT, -_PROMPT_LOGIT),
        )

    def read_mask(self, masks: Tensor, features: TrackerFeatures, *, present: Tensor | None = None) -> TrackedMasks:
        """What the decoder itself makes of masks that were given; of this, :meth:`use_mask` keeps the pointers."""
        prompt = self.mask_downsample(masks.to(self.mask_downsample.weight.dtype))
        return self.segment(features.top, features, masks=prompt, multimask=False, present=present)

    def remember(
        self, features: TrackerFeatures, masks: Tensor, object_score_logits: Tensor, *, is_prompted: bool
    ) -> Tensor:
        """Memory maps (B, Cm, h, w) of B objects on a frame (spec/tracker_video.md 2.7), in the dtype of the weights.

        Args:
            masks: (B, 1, H, W) logits at the size of the input image.
            object_score_logits: (B, 1); an object that is not there (0 or less) is remembered as such.
            is_prompted: somebody said what the object is, so its mask counts as certain.
        """
        is_hard = is_prompted and not self.training
        inside = (masks > 0).float() if is_hard else masks.float().sigmoid()
        scaled = self.config.mask_scale * inside + self.config.mask_bias
        memory = self.maskmem_backbone(features.top, scaled)
        absent = (object_score_logits <= 0).to(memory.dtype)[:, :, None, None]
        return memory + absent * self.no_obj_embed_spatial[:, :, None, None]

    def multimask_for(self, num_points: int, *, is_first: bool) -> bool:
        """Whether a prompt of ``num_points`` (a box is two, tracking none) leaves room for three candidates."""
        config = self.config
        return (is_first or config.multimask_for_tracking) and num_points <= config.multimask_max_points

    # --- parts ---

    def _pointers(self, tokens: Tensor, is_present: Tensor) -> Tensor:
        """(B, C) mask tokens -> (B, C)."""
        return torch.where(is_present, self.obj_ptr_proj(tokens), self.no_obj_ptr.to(tokens.dtype))

    def _memory_tokens(self, remembered: Recall, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Maps, then pointers, as (B, L, Cm) tokens with their position codes."""
        dim, rows = self.config.memory_dim, len(remembered.maps[0].frame.memory)
        device = self.maskmem_tpos_enc.device
        cells = encode_map(*grid, dim, device).flatten(2).transpose(1, 2)
        tokens = [entry.frame.memory.to(device).float().flatten(2).transpose(1, 2) for entry in remembered.maps]
        codes = [cells + self.maskmem_tpos_enc[entry.row].float() for entry in remembered.maps]
        if remembered.pointers:
            pointers = torch.stack([entry.frame.pointers.to(device).float() for entry in remembered.pointers], 1)
            parts = self.config.d_model // dim
            tokens.append(pointers.unflatten(2, (parts, dim)).flatten(1, 2))
            codes.append(self._pointer_codes(remembered).repeat_interleave(parts, 1))
        return torch.cat(tokens, 1), torch.cat([code.expand(rows, -1, -1) for code in codes], 1)

    def _pointer_codes(self, remembered: Recall) -> Tensor:
        """(1, K, Cm): how long ago each pointer was made."""
        distances = torch.tensor(
            [entry.distance for entry in remembered.pointers], dtype=torch.float32, device=self.no_obj_ptr.device
        )
        scaled = distances / max(1, remembered.max_pointers - 1)
        weight = self.obj_ptr_tpos_proj.weight
        return self.obj_ptr_tpos_proj(encode_offsets(scaled, self.config.d_model).to(weight.dtype))[None].float()


class MemoryTransformer(nn.Module):
    """The memory attention, under its released prefix."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        self.encoder = MemoryAttention(config)


def resize_antialiased(maps: Tensor, side: int) -> Tensor:
    """(B, M, H, W) -> (B, M, side, side) float32, bilinear."""
    return F.interpolate(maps.float(), (side, side), mode="bilinear", align_corners=False, antialias=True)
