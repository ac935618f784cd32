"""Loss of the semantic map: the union of all instances of the phrase, one map per prompt.

Not part of the shipped training; switched on through ``Criterion.semantic``. Source: ``spec/training.md`` 6.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from sam3.structures import Targets
from sam3.train.losses.elementary import dice_loss, sigmoid_focal_loss
from sam3.train.losses.terms import require_known_weights


@dataclass(frozen=True, kw_only=True)
class SemanticLoss:
    """``loss_semantic_seg`` (focal or cross-entropy) and ``loss_semantic_dice``; metric ``miou_semantic_seg``.

    Called with presence logits it also gives ``loss_semantic_presence`` (cross-entropy) and ``presence_acc``.
    """

    weights: Mapping[str, float] = field(
        default_factory=lambda: {"loss_semantic_seg": 20.0, "loss_semantic_dice": 30.0}
    )
    focal: bool = False
    focal_alpha: float = 0.6
    focal_gamma: float = 1.6
    downsample: bool = True
    """Compare at the size of the prediction (a pixel is inside when anything in its reach is), else of the target."""
    only_present: bool = False
    """Average over the prompts that have objects (their absence is learnt by a presence logit), not over all."""

    def __post_init__(self) -> None:
        known = {"loss_semantic_seg", "loss_semantic_dice", "loss_semantic_presence"}
        require_known_weights("SemanticLoss", self.weights, known)

    def __call__(self, logits: Tensor, targets: Targets, presence_logits: Tensor | None = None) -> dict[str, Tensor]:
        """Scalar components, not yet weighted.

        Args:
            logits: (P, 1, h, w).
            targets: Their ``semantic_masks`` where given, else the union of their ``masks``.
            presence_logits: (P, 1).
        """
        wanted = semantic_target(targets, len(logits))
        if wanted is None:
            nothing = logits[:0].float().sum()
            return {"loss_semantic_seg": nothing, "loss_semantic_dice": nothing}
        present = wanted.flatten(1).any(1)
        logits, wanted = self._same_size(logits.float(), wanted)
        counted = present if self.only_present else torch.ones_like(present)
        count = counted.sum() + 1e-6 if self.only_present else max(1, len(counted))
        components = {
            "loss_semantic_seg": (self._pixelwise(logits, wanted) * counted).sum() / count,
            "loss_semantic_dice": (dice_loss(logits, wanted) * counted).sum() / count,
            "miou_semantic_seg": _mean_iou(logits > 0, wanted > 0),
        }
        if presence_logits is not None:
            presence = presence_logits.float().flatten()
            components["loss_semantic_presence"] = binary_cross_entropy_with_logits(presence, present.float())
            components["presence_acc"] = ((presence > 0) == present).float().mean()
        return components

    def _same_size(self, logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Flattened logits and targets, both (P, pixels) float32."""
        if self.downsample:
            smaller = interpolate(wanted[:, None].float(), size=logits.shape[-2:], mode="bilinear", align_corners=False)
            wanted = smaller > 0
        else:
            logits = interpolate(logits, size=wanted.shape[-2:], mode="bilinear", align_corners=False)
        return logits.flatten(1), wanted.flatten(1).float()

    def _pixelwise(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Mean over the pixels, (P,)."""
        if self.focal:
            return sigmoid_focal_loss(logits, wanted, alpha=self.focal_alpha, gamma=self.focal_gamma).mean(1)
        return binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)


def semantic_target(targets: Targets, num_prompts: int) -> Tensor | None:
    """(P, H, W) bool: pixels of any instance of the phrase; None where nothing carries a mask."""
    if targets.semantic_masks is not None and targets.semantic_masks.numel():
        return targets.semantic_masks
    if targets.masks is None:
        return None
    prompts = torch.arange(num_prompts, device=targets.num_boxes.device)
    prompt_of_object = prompts.repeat_interleave(targets.num_boxes, output_size=len(targets.masks))
    covering = torch.zeros(num_prompts, *targets.masks.shape[1:], device=targets.masks.device)
    return covering.index_add(0, prompt_of_object, targets.masks.float()) > 0


def _mean_iou(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Sum of the IoU over the prompts with a target / their number; 1 when there are none."""
    union = (predicted | wanted).sum(1).clamp(min=1)
    present = wanted.any(1)
    iou = (predicted & wanted).sum(1) / union * present
    return torch.where(present.any(), iou.sum() / present.sum().clamp(min=1), 1.0)
