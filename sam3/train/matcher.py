"""Which query answers for which object: one-to-one (Hungarian) and one-to-many assignment.

Both matchers read the final or an intermediate decoder layer and the targets and return
:class:`Matches`; they hold no parameters and carry no gradient. Source: ``spec/training.md`` 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from sam3.ops.boxes import box_cxcywh_to_xyxy, box_iou, generalized_box_iou
from sam3.structures import QueryPredictions, Targets

_FORBIDDEN = 1e9  # cost of a pair that must not be chosen
_CHOSEN_BELOW = 1e8  # a solved pair at or above this cost was forced and is dropped
_LOG_EPSILON = 1e-8


class NonFiniteCostError(FloatingPointError):
    """The network answered with NaN or infinite logits or boxes, so no assignment exists.

    Attributes:
        prompts: Rows of the batch whose predictions are not finite.
    """

    def __init__(self, prompts: Sequence[int]) -> None:
        self.prompts = list(prompts)
        super().__init__(
            f"the matching cost is not finite for prompts {self.prompts} of the batch: the network's logits or boxes "
            "are NaN or infinite. Lower the learning rate or the gradient clip, or train in bfloat16 or float32."
        )


@dataclass(frozen=True)
class Matches:
    """M pairs of a query and an object; the three tensors are (M,) long and run in parallel.

    ``target`` counts the packed objects of all prompts (:class:`~sam3.structures.Targets`), so
    ``targets.boxes[matches.target]`` lies beside ``predictions.boxes[matches.prompt, matches.query]``.
    """

    prompt: Tensor
    query: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.prompt)

    def gather(self, predictions: Tensor) -> Tensor:
        """Rows of ``predictions`` (P, Q, ...) that were matched, (M, ...)."""
        return predictions[self.prompt, self.query]

    def select(self, kept: Tensor) -> Matches:
        """The pairs at ``kept``: a (M,) bool mask or long positions."""
        return Matches(self.prompt[kept], self.query[kept], self.target[kept])


@dataclass(frozen=True, kw_only=True)
class HungarianMatcher:
    """The assignment of least cost: every object gets one query, no query two objects.

    The cost of a pair is ``cost_bbox * |box difference|_1 - cost_giou * GIoU + cost_class * c`` with
    ``c = -p`` or, with ``focal``, ``c = -alpha (1-p)^gamma log p + (1-alpha) p^gamma log(1-p)``;
    ``stable`` replaces p by ``p (GIoU + 1) / 2``, which ties the class to a well placed box.
    A prompt with more objects than queries leaves its most expensive objects without a query.
    """

    cost_class: float = 2.0
    cost_bbox: float = 5.0
    cost_giou: float = 2.0
    focal: bool = True
    alpha: float = 0.25
    gamma: float = 2.0
    stable: bool = False

    def __call__(
        self,
        predictions: QueryPredictions,
        targets: Targets,
        *,
        query_is_valid: Tensor | None = None,
        target_is_valid: Tensor | None = None,
    ) -> Matches:
        """Pairs ordered by object.

        Args:
            query_is_valid: (P, Q) bool; queries that may be chosen. All of them by default.
            target_is_valid: (P, max objects) bool; objects that may be chosen.

        Raises:
            NonFiniteCostError: A prediction is NaN or infinite.
        """
        cost = self.cost(predictions, targets)
        if query_is_valid is not None:
            cost = cost.masked_fill(~query_is_valid[:, :, None], _FORBIDDEN)
        if target_is_valid is not None:
            cost = cost.masked_fill(~target_is_valid[:, None], _FORBIDDEN)
        return _solve([cost], targets)[0]

    def match_layers(self, layers: Sequence[QueryPredictions], targets: Targets) -> list[Matches]:
        """The assignment of each decoder layer; the costs of all travel to the CPU together."""
        return _solve([self.cost(predictions, targets) for predictions in layers], targets)

    @torch.no_grad()
    def cost(self, predictions: QueryPredictions, targets: Targets) -> Tensor:
        """Cost of every pair, (P, Q, max objects) float32; columns of padding mean nothing."""
        boxes, wanted = predictions.boxes.float(), targets.boxes_padded.float()
        with torch.autocast(boxes.device.type, enabled=False):
            giou = generalized_box_iou(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(wanted))
            distance = (boxes[:, :, None] - wanted[:, None]).abs().sum(-1)
            class_cost = self._class_cost(predictions.logits.float(), giou)
            return self.cost_bbox * distance + self.cost_class * class_cost - self.cost_giou * giou

    def _class_cost(self, logits: Tensor, giou: Tensor) -> Tensor:
        """Class part of the cost, (P, Q, 1) or, with ``stable``, (P, Q, max objects)."""
        probability = logits.sigmoid()
        log_yes, log_no = logsigmoid(logits), logsigmoid(-logits)
        if self.stable:
            probability = probability * (giou + 1) / 2
            log_yes, log_no = (probability + _LOG_EPSILON).log(), (1 - probability + _LOG_EPSILON).log()
        if not self.focal:
            return -probability
        yes = self.alpha * (1 - probability) ** self.gamma * log_yes
        no = (1 - self.alpha) * probability**self.gamma * log_no
        return no - yes


@dataclass(frozen=True, kw_only=True)
class OneToManyMatcher:
    """Up to about ``topk`` good queries for each object; a query may serve several objects.

    A pair is chosen when ``s = alpha * p + (1 - alpha) * IoU`` exceeds both ``threshold`` and the
    quantile that leaves ``topk`` queries above it (strictly, linear interpolation).
    """

    alpha: float = 0.3
    threshold: float = 0.4
    topk: int = 4

    @torch.no_grad()
    def __call__(
        self,
        predictions: QueryPredictions,
        targets: Targets,
        *,
        query_is_valid: Tensor | None = None,
        target_is_valid: Tensor | None = None,
    ) -> Matches:
        """Pairs ordered by prompt, query, object. The masks are those of :class:`HungarianMatcher`."""
        score = self.score(predictions, targets)
        if query_is_valid is not None:
            score = score.masked_fill(~query_is_valid[:, :, None], 0)
        is_object = _is_object(targets) if target_is_valid is None else _is_object(targets) & target_is_valid
        chosen = is_object[:, None] & self._is_good(score)
        prompt, query, target = chosen.nonzero(as_tuple=True)
        first_object = targets.num_boxes.cumsum(0) - targets.num_boxes
        return Matches(prompt, query, target + first_object[prompt])

    def match_layers(self, layers: Sequence[QueryPredictions], targets: Targets) -> list[Matches]:
        """The assignment of each decoder layer."""
        return [self(predictions, targets) for predictions in layers]

    def score(self, predictions: QueryPredictions, targets: Targets) -> Tensor:
        """Score of every pair in [0, 1], (P, Q, max objects) float32; columns of padding mean nothing."""
        boxes, wanted = predictions.boxes.float(), targets.boxes_padded.float()
        with torch.autocast(boxes.device.type, enabled=False):
            iou, _ = box_iou(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(wanted))
            return self.alpha * predictions.logits.float().sigmoid() + (1 - self.alpha) * iou

    def _is_good(self, score: Tensor) -> Tensor:
        """Pairs above both thresholds, (P, Q, max objects) bool."""
        if score.numel() == 0:
            return torch.zeros_like(score, dtype=torch.bool)
        rank = max(0.0, 1 - self.topk / score.shape[1])
        return (score > score.quantile(rank, dim=1, keepdim=True)) & (score > self.threshold)


def _is_object(targets: Targets) -> Tensor:
    """(P, max objects) bool, False on padding."""
    slots = torch.arange(targets.boxes_padded.shape[1], device=targets.num_boxes.device)
    return slots < targets.num_boxes[:, None]


def _solve(costs: Sequence[Tensor], targets: Targets) -> list[Matches]:
    """Least-cost assignments of several (P, Q_i, max objects) cost tensors."""
    if not costs:
        return []
    device = targets.boxes.device
    if targets.boxes_padded.shape[1] == 0:
        nothing = torch.zeros(0, dtype=torch.long, device=device)
        return [Matches(nothing, nothing, nothing) for _ in costs]
    on_cpu = torch.cat(list(costs), dim=1).cpu().numpy()
    counts = targets.num_boxes.tolist()
    borders = np.cumsum([cost.shape[1] for cost in costs])[:-1]
    return [_solve_layer(layer, counts, device) for layer in np.split(on_cpu, borders, axis=1)]


def _solve_layer(cost: np.ndarray, counts: Sequence[int], device: torch.device) -> Matches:
    from scipy.optimize import linear_sum_assignment

    diverged = [prompt for prompt, count in enumerate(counts) if not np.isfinite(cost[prompt, :, :count]).all()]
    if diverged:
        raise NonFiniteCostError(diverged)
    triples = [np.zeros((3, 0), dtype=np.int64)]
    first_object = 0
    for prompt, count in enumerate(counts):
        block = cost[prompt, :, :count]
        query, target = linear_sum_assignment(block)
        allowed = block[query, target] < _CHOSEN_BELOW
        by_object = np.argsort(target[allowed])
        query, target = query[allowed][by_object], target[allowed][by_object]
        triples.append(np.stack([np.full_like(query, prompt), query, first_object + target]))
        first_object += count
    return Matches(*torch.from_numpy(np.concatenate(triples, axis=1)).to(device))
