"""Many prompts in several passes, so that memory follows the pass and not the number of classes.

The image is encoded once; what follows (phrases, fusion, decoder, masks, matching, loss) is done for some prompts at a
time. In training each pass is forgotten, but for its loss, and computed again in the backward pass. That is one graph,
as without passes: engines, gradient scalers and skipped steps need not know. One pass costs nothing more; several cost
the forward pass of everything behind the image encoder once more.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sam3.data.collate import split_prompts
from sam3.model.detector.detector import Sam3Image
from sam3.structures import Batch, DetectorOutput, ImageFeatures
from sam3.train.losses.criterion import Losses
from sam3.train.losses.normalization import Share

T = TypeVar("T")


def passes_of(batch: Batch, prompts_per_pass: int | None) -> list[Batch]:
    """Parts of ``batch`` with at most ``prompts_per_pass`` prompts for each of its images; None = one part."""
    return [batch] if prompts_per_pass is None else split_prompts(batch, prompts_per_pass * len(batch))


def losses_in_passes(
    model: nn.Module, criterion: nn.Module, batch: Batch, share: Share, *, prompts_per_pass: int | None
) -> Losses:
    """The loss of ``batch``, the same as in one pass but for rounding (and the F1 among the logged parts)."""
    parts = passes_of(batch, prompts_per_pass)
    if len(parts) == 1:
        return criterion(model(batch), batch.targets, share)

    def judge_all(image: ImageFeatures) -> tuple[Tensor, dict[str, Tensor]]:
        judged = [_judge(model, criterion, image, part, share_of_part(batch, part, share)) for part in parts]
        losses = joined(batch, parts, judged)
        return losses.total, losses.parts  # plain containers: engines look for tensors in what the model returns

    return Losses(*model(batch, judge_all))


def share_of_part(batch: Batch, part: Batch, share: Share) -> Share:
    """What the loss of ``part`` is divided by, so that those of all parts add up to that of ``batch``."""
    return share if part is batch else share.part(part.num_prompts / batch.num_prompts, len(batch.targets.boxes))


def joined(batch: Batch, parts: Sequence[Batch], judged: Sequence[Losses]) -> Losses:
    """The loss of ``batch`` from those of its parts: totals add up, what is logged is their mean over prompts."""
    weights = [part.num_prompts / batch.num_prompts for part in parts]
    logged = {
        name: sum(weight * losses.parts[name] for weight, losses in zip(weights, judged, strict=True))
        for name in judged[0].parts
    }
    return Losses(torch.stack([losses.total for losses in judged]).sum(), logged)


def predict_in_passes(
    model: nn.Module, batch: Batch, use: Callable[[Batch, DetectorOutput], T], *, prompts_per_pass: int | None
) -> list[T]:
    """What ``use`` makes of each part of ``batch`` and its output, which is gone before the next; without gradients."""
    parts = passes_of(batch, prompts_per_pass)
    if len(parts) == 1:
        return [use(batch, model(batch))]
    return model(batch, lambda image: [use(part, model.ground_batch(image, part)) for part in parts])


def _judge(model: Sam3Image, criterion: nn.Module, image: ImageFeatures, part: Batch, share: Share) -> Losses:
    def forward(*pyramid: Tensor) -> Losses:
        output = model.ground_batch(replace(image, pyramid=list(pyramid)), part)
        return criterion(output, part.targets, share)

    if not torch.is_grad_enabled():
        return forward(*image.pyramid)
    # The maps are handed over one by one: checkpoint looks for tensors to know whose random numbers to repeat.
    return checkpoint(forward, *image.pyramid, use_reentrant=False)
