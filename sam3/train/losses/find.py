"""Losses of the found objects: where they are (boxes) and how sure the network is (class, presence).

Source: ``spec/training.md`` 6.2, 6.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

from sam3.ops.boxes import box_cxcywh_to_xyxy, paired_box_iou, paired_generalized_box_iou
from sam3.structures import QueryPredictions, Targets
from sam3.train.losses.elementary import binary_f1, sigmoid_focal_loss
from sam3.train.losses.terms import require_known_weights
from sam3.train.matcher import Matches


@dataclass(frozen=True, kw_only=True)
class BoxLoss:
    """``loss_bbox`` = L1 of cxcywh, ``loss_giou`` = 1 - GIoU, of matched boxes, summed over pairs / ``num_boxes``."""

    weights: Mapping[str, float] = field(default_factory=lambda: {"loss_bbox": 5.0, "loss_giou": 2.0})
    on_every_layer: bool = True

    def __post_init__(self) -> None:
        require_known_weights("BoxLoss", self.weights, {"loss_bbox", "loss_giou"})

    def __call__(
        self, predictions: QueryPredictions, targets: Targets, matches: Matches, num_boxes: Tensor
    ) -> dict[str, Tensor]:
        wanted = targets.boxes[matches.target].float()
        distance = (matches.gather(predictions.boxes).float() - wanted).abs()
        giou = paired_generalized_box_iou(matches.gather(predictions.boxes_xyxy).float(), box_cxcywh_to_xyxy(wanted))
        return {"loss_bbox": distance.sum() / num_boxes, "loss_giou": (1 - giou).sum() / num_boxes}


@dataclass(frozen=True, kw_only=True)
class ClassificationLoss:
    """IoU-aware classification of the queries and presence of the phrase.

    ``loss_ce``: matched queries learn ``t = p^alpha IoU^(1 - alpha)`` (at least 0.01) by cross-entropy,
    all others learn 0 by cross-entropy times ``p^gamma``. With ``use_presence`` a prompt without
    objects teaches its queries nothing; its absence is learnt by the presence logit alone
    (``presence_loss``, where the layer has one). Metrics: ``ce_f1``, ``presence_dec_acc``.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: {"loss_ce": 20.0, "presence_loss": 20.0})
    on_every_layer: bool = True
    pos_weight: float = 10.0
    alpha: float = 0.25
    gamma: float = 2.0
    use_presence: bool = True
    presence_alpha: float = 0.5
    presence_gamma: float = 0.0
    pos_focal: bool = False
    """Focal loss (alpha 0.5, this gamma) instead of plain cross-entropy for matched queries."""
    pad_n_queries: int | None = None
    """Divide by this number of queries where the layer has fewer; the released training has 200."""
    pad_scale_pos: float = 1.0
    """Factor on matched queries where the layer has fewer than ``pad_n_queries``."""
    weak_loss: bool = False
    """Leave out unmatched queries of prompts whose instances are not all annotated; mean over the rest."""

    def __post_init__(self) -> None:
        require_known_weights("ClassificationLoss", self.weights, {"loss_ce", "presence_loss"})

    def __call__(
        self, predictions: QueryPredictions, targets: Targets, matches: Matches, num_boxes: Tensor
    ) -> dict[str, Tensor]:
        logits = predictions.logits.float().squeeze(-1)
        is_matched, soft_target = self._soft_targets(predictions, targets, matches)
        present = _has_object(targets)
        loss = torch.where(is_matched, self._positive_loss(logits, soft_target), self._negative_loss(logits))
        if self.use_presence:
            loss = loss * present[:, None]
        components = {
            "loss_ce": self._mean(loss, is_matched, targets.is_exhaustive),
            "ce_f1": binary_f1(logits.detach() > 0, is_matched),
        }
        if self.use_presence and predictions.presence_logits is not None:
            components |= self._presence(predictions.presence_logits.float().squeeze(-1), present)
        return components

    @torch.no_grad()
    def _soft_targets(self, predictions: QueryPredictions, targets: Targets, matches: Matches) -> tuple[Tensor, Tensor]:
        """Which queries are matched, (P, Q) bool, and what they should answer, (P, Q).

        A query matched to several objects answers for the one it covers best.
        """
        found = matches.gather(predictions.boxes_xyxy).float()
        iou, _ = paired_box_iou(found, box_cxcywh_to_xyxy(targets.boxes[matches.target].float()))
        probability = matches.gather(predictions.logits).float().sigmoid().squeeze(-1)
        wanted = (probability**self.alpha * iou ** (1 - self.alpha)).clamp(min=0.01)
        num_prompts, num_queries = predictions.logits.shape[:2]
        soft = wanted.new_zeros(num_prompts * num_queries)
        soft = soft.scatter_reduce(0, matches.prompt * num_queries + matches.query, wanted, reduce="amax")
        soft = soft.view(num_prompts, num_queries)
        return soft > 0, soft

    def _positive_loss(self, logits: Tensor, soft_target: Tensor) -> Tensor:
        if self.pos_focal:
            loss = sigmoid_focal_loss(logits, soft_target, alpha=0.5, gamma=self.gamma)
        else:
            loss = binary_cross_entropy_with_logits(logits, soft_target, reduction="none")
        padded = self.pad_n_queries is not None and logits.shape[1] < self.pad_n_queries
        return loss * (self.pos_weight * self.pad_scale_pos if padded else self.pos_weight)

    def _negative_loss(self, logits: Tensor) -> Tensor:
        """Cross-entropy against 0 times p^gamma, whose gradient counts; p^gamma as exp(gamma log p) stays finite."""
        return softplus(logits) * (self.gamma * logsigmoid(logits)).exp()

    def _mean(self, loss: Tensor, is_matched: Tensor, is_exhaustive: Tensor) -> Tensor:
        if self.weak_loss:
            counted = is_exhaustive[:, None] | is_matched
            return (loss * counted).sum() / (counted.sum() + 1e-6)
        num_prompts, num_queries = loss.shape
        return loss.sum() / max(1, num_prompts * max(num_queries, self.pad_n_queries or 0))

    def _presence(self, logits: Tensor, present: Tensor) -> dict[str, Tensor]:
        loss = sigmoid_focal_loss(logits, present.float(), alpha=self.presence_alpha, gamma=self.presence_gamma)
        num_prompts = max(1, len(logits))
        return {
            "presence_loss": loss.sum() / num_prompts,
            "presence_dec_acc": ((logits > 0) == present).sum() / num_prompts,
        }


def _has_object(targets: Targets) -> Tensor:
    """(P,) bool: the prompt has an object with an area."""
    has_area = (targets.boxes_padded[..., 2:] > 0).all(-1)
    return ((targets.object_ids_padded >= 0) & has_area).any(-1)
