"""Mask loss of matched queries: focal and dice, at full resolution or at sampled points.

The full-resolution loss works through the masks in chunks and recomputes each chunk in the
backward pass, so that memory follows the chunk, not the number of objects. Source:
``spec/training.md`` 6.4; point sampling after arXiv 1912.08193.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate
from torch.utils.checkpoint import checkpoint

from sam3.errors import ConfigError
from sam3.structures import QueryPredictions, Targets
from sam3.train.losses.elementary import dice_loss, sigmoid_focal_loss
from sam3.train.losses.terms import require_known_weights
from sam3.train.matcher import Matches


@dataclass(frozen=True, kw_only=True)
class MaskLoss:
    """``loss_mask`` = mean focal loss of a mask, ``loss_dice`` = its dice loss, summed over pairs / ``num_boxes``.

    Objects without a valid mask take no part (but count in ``num_boxes``). The logits are brought
    to the size of the target masks by bilinear interpolation.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: {"loss_mask": 200.0, "loss_dice": 10.0})
    on_every_layer: bool = False
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    num_sample_points: int | None = None
    """Points at which a mask is judged; None = every pixel."""
    oversample_ratio: float = 3.0
    """Candidate points drawn for each point kept."""
    importance_sample_ratio: float = 0.75
    """Share of the points taken where the prediction is least certain; the rest is uniform."""
    max_masks: int | None = None
    """Pairs of one prompt that are judged at most: a random choice of that many stands for all."""
    max_chunk_pixels: int = 2**23
    """Target pixels worked on at a time at full resolution; about 50 bytes of memory each."""

    def __post_init__(self) -> None:
        require_known_weights("MaskLoss", self.weights, {"loss_mask", "loss_dice"})
        for name in ("num_sample_points", "max_masks", "max_chunk_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"MaskLoss.{name} must be at least 1 or null, got {value}")
        if not 0 <= self.importance_sample_ratio <= 1 <= self.oversample_ratio:
            raise ConfigError(
                "MaskLoss needs importance_sample_ratio in [0, 1] and oversample_ratio of at least 1, got "
                f"{self.importance_sample_ratio} and {self.oversample_ratio}"
            )

    def __call__(
        self, predictions: QueryPredictions, targets: Targets, matches: Matches, num_boxes: Tensor
    ) -> dict[str, Tensor]:
        if predictions.masks is None:
            return {}
        if targets.masks is None:
            nothing = predictions.masks[:0].float().sum()
            return {"loss_mask": nothing, "loss_dice": nothing}
        if targets.mask_is_valid is not None:
            matches = matches.select(targets.mask_is_valid[matches.target])
        share = torch.ones(len(matches), device=matches.prompt.device)
        if self.max_masks is not None:
            matches, share = limit_per_prompt(matches, self.max_masks)
        logits, masks = matches.gather(predictions.masks), targets.masks[matches.target]
        focal, dice = self._judge(logits, masks)
        return {"loss_mask": (focal * share).sum() / num_boxes, "loss_dice": (dice * share).sum() / num_boxes}

    def _judge(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Focal and dice loss of each mask, both (M,)."""
        if len(logits) == 0:
            nothing = logits.float().sum((1, 2))
            return nothing, nothing
        chunk = max(1, self.max_chunk_pixels // max(1, masks[0].numel()))
        if self.num_sample_points is not None:
            points = self._sample_points(logits)
            parts = zip(masks.split(chunk), points.split(chunk), strict=True)
            wanted = torch.cat([sample_at(part.float(), its_points) for part, its_points in parts])
            return self.pointwise(sample_at(logits.float(), points), wanted)
        if chunk >= len(logits):
            return self._full_resolution(logits, masks)
        judged = [
            checkpoint(self._full_resolution, *part, use_reentrant=False, preserve_rng_state=False)
            for part in zip(logits.split(chunk), masks.split(chunk), strict=True)
        ]
        focal, dice = zip(*judged, strict=True)
        return torch.cat(focal), torch.cat(dice)

    def _full_resolution(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        resized = interpolate(logits.float()[:, None], size=masks.shape[-2:], mode="bilinear", align_corners=False)
        return self.pointwise(resized.flatten(1), masks.flatten(1).float())

    def pointwise(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean focal and dice loss of each mask judged at given points: (M, K), (M, K) -> (M,), (M,)."""
        focal = sigmoid_focal_loss(logits, targets, alpha=self.focal_alpha, gamma=self.focal_gamma)
        return focal.mean(1), dice_loss(logits, targets)

    @torch.no_grad()
    def _sample_points(self, logits: Tensor) -> Tensor:
        assert self.num_sample_points is not None
        num_candidates = int(self.num_sample_points * self.oversample_ratio)
        num_uncertain = int(self.num_sample_points * self.importance_sample_ratio)
        candidates = torch.rand(len(logits), num_candidates, 2, device=logits.device)
        uniform = torch.rand(len(logits), self.num_sample_points - num_uncertain, 2, device=logits.device)
        return choose_points(logits.float(), candidates, uniform, num_uncertain=num_uncertain)


def sample_at(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of maps (M, H, W) at points (M, K, 2), xy in [0, 1]: (M, K); 0 outside the map."""
    return grid_sample(maps[:, None], 2 * points[:, None] - 1, align_corners=False)[:, 0, 0]


def choose_points(logits: Tensor, candidates: Tensor, uniform: Tensor, *, num_uncertain: int) -> Tensor:
    """The ``num_uncertain`` candidates where |logit| is smallest, then the ``uniform`` points.

    Args:
        logits: (M, H, W).
        candidates: (M, C, 2) xy in [0, 1].
        uniform: (M, K, 2) xy in [0, 1].

    Returns:
        (M, num_uncertain + K, 2).
    """
    certainty = sample_at(logits, candidates).abs()
    least_certain = certainty.topk(num_uncertain, dim=1, largest=False).indices
    return torch.cat([candidates.take_along_dim(least_certain[..., None], 1), uniform], 1)


def limit_per_prompt(matches: Matches, limit: int) -> tuple[Matches, Tensor]:
    """At most ``limit`` pairs of each prompt, drawn at random, and how many pairs each of them stands for, (K,)."""
    order = (matches.prompt + torch.rand(len(matches), device=matches.prompt.device)).argsort()
    matches = matches.select(order)
    first = torch.searchsorted(matches.prompt, matches.prompt)
    count = torch.searchsorted(matches.prompt, matches.prompt, right=True) - first
    kept = torch.arange(len(matches), device=first.device) - first < limit
    return matches.select(kept), (count / count.clamp(max=limit))[kept]
