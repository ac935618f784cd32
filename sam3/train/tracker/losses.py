"""What the tracker is taught on each frame: masks (focal and dice), their quality, and whether the object is there.

After a click, the candidate mask that costs least is taught. Where a mask, a box or the memory says what is meant, all
are: of two objects that look alike, one candidate each would be no mistake otherwise, and nobody would learn which is
meant. The quality of all candidates is taught, and of an object that does not show only its absence. Weights as in
SAM 2 (arXiv 2408.00714). Legend: T frames, R objects, M candidates.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3.data.clips import ClipBatch
from sam3.model.video.sam3_video import Sam3Video
from sam3.train.losses.criterion import Losses
from sam3.train.losses.elementary import dice_loss, iou_prediction_loss, sigmoid_focal_loss
from sam3.train.losses.normalization import Share
from sam3.train.losses.terms import require_known_weights
from sam3.train.tracker.rollout import FrameAnswer, roll_out

WEIGHTS = {"loss_mask": 20.0, "loss_dice": 1.0, "loss_iou": 1.0, "loss_object": 1.0}


class ClipLoss(nn.Module):
    """Means over the objects and frames of a batch.

    Args:
        weights: of ``loss_mask`` (focal), ``loss_dice``, ``loss_iou`` and ``loss_object``; a missing one is 0.
        iou_l1: absolute instead of squared error of the predicted quality.
        forget: see :func:`~sam3.train.tracker.rollout.roll_out`.
    """

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        *,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        iou_l1: bool = True,
        forget: float = 0.15,
    ) -> None:
        super().__init__()
        self.weights = dict(WEIGHTS if weights is None else weights)
        require_known_weights("ClipLoss", self.weights, set(WEIGHTS))
        self.focal_alpha, self.focal_gamma = focal_alpha, focal_gamma
        self.iou_l1, self.forget = iou_l1, forget

    def forward(self, answers: Sequence[FrameAnswer], batch: ClipBatch, share: Share | None = None) -> Losses:
        """
        Args:
            share: of the objects, where several processes work on a batch.
        """
        side = answers[0].tracked.low_res.shape[-1]
        wanted = F.interpolate(batch.masks.float(), (side, side), mode="area").transpose(0, 1)  # (T, R, side, side)
        frames = [self.frame(answer, masks) for answer, masks in zip(answers, wanted, strict=True)]
        parts = {name: torch.stack([frame[name] for frame in frames]).mean() for name in WEIGHTS}
        total = sum(self.weights.get(name, 0.0) * value for name, value in parts.items())
        total = total * (share.factor if share else 1.0)
        return Losses(total, {name: value.detach() for name, value in parts.items()})

    def frame(self, answer: FrameAnswer, wanted: Tensor) -> dict[str, Tensor]:
        """Terms of one frame, unweighted scalars.

        Args:
            wanted: (R, h, w) share of each cell that the object covers.
        """
        logits, ious = answer.tracked.candidates, answer.tracked.ious
        there = answer.is_present.float()  # (R, 1)
        target = wanted[:, None].expand_as(logits)
        focal = sigmoid_focal_loss(logits, target, alpha=self.focal_alpha, gamma=self.focal_gamma).mean((2, 3))
        dice = dice_loss(logits.flatten(0, 1), target.flatten(0, 1)).unflatten(0, logits.shape[:2])
        cost = self.weights.get("loss_mask", 0.0) * focal + self.weights.get("loss_dice", 0.0) * dice
        share = torch.full_like(cost, 1 / cost.shape[1])  # (R, M) what each candidate counts
        best = F.one_hot(cost.detach().argmin(1), cost.shape[1]).to(cost)
        counts = torch.where(answer.is_ambiguous, best, share)
        quality = iou_prediction_loss(ious, logits, target > 0.5, l1=self.iou_l1)
        count = len(wanted)
        return {
            "loss_mask": (there * counts * focal).sum() / count,
            "loss_dice": (there * counts * dice).sum() / count,
            "loss_iou": (there * quality).mean(1).sum() / count,
            "loss_object": F.binary_cross_entropy_with_logits(answer.tracked.object_score_logits, there),
        }


class ClipNetwork(nn.Module):
    """Tracker and loss as one module, as the trainer runs them."""

    def __init__(self, model: Sam3Video, criterion: ClipLoss) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion

    def forward(self, batch: ClipBatch, share: Share) -> Losses:
        return self.criterion(roll_out(self.model, batch, forget=self.criterion.forget), batch, share)
