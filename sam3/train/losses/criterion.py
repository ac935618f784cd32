"""The training loss: which term on which decoder layer, with which weight, divided by what.

    total = sqrt(P) * sum over layers of (one-to-one terms + o2m_weight * one-to-many terms)

Each decoder layer is judged with its own assignment; the mask term only on the last one. Everything
is computed in float32, whatever autocast says. Source: ``spec/training.md`` 6.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sam3.errors import ConfigError
from sam3.structures import DetectorOutput, QueryPredictions, Targets
from sam3.train.losses.normalization import Share
from sam3.train.losses.semantic import SemanticLoss
from sam3.train.losses.terms import LossTerm, weighted_sum
from sam3.train.matcher import HungarianMatcher, Matches, OneToManyMatcher


@dataclass(frozen=True)
class Losses:
    """What one batch costs.

    ``parts`` are scalars for the log, detached and on the device. A name ends in ``_aux_i`` for
    decoder layer i (the last layer has no such suffix) and in ``_o2m`` for one-to-many queries,
    whose losses carry ``o2m_weight`` as they do in the total; metrics never do.
    """

    total: Tensor
    parts: dict[str, Tensor]

    def here(self, share: Share) -> dict[str, Tensor]:
        """``loss`` and the parts as this process's summands of those of the whole batch."""
        summands = {name: value * share.fraction for name, value in self.parts.items()}
        return {"loss": self.total.detach() / share.processes, **summands}


@dataclass(frozen=True)
class _Branch:
    """One set of queries of one decoder layer."""

    predictions: QueryPredictions
    suffix: str
    weight: float
    is_last_layer: bool
    is_one_to_many: bool


class Criterion(nn.Module):
    """Matches queries to objects and sums the terms.

    Args:
        terms: Losses of the queries (:class:`~sam3.train.losses.terms.LossTerm`).
        matcher: One-to-one assignment; also that of the one-to-many queries of intermediate layers.
        o2m_matcher: Assignment of the one-to-many queries of the last layer.
        o2m_weight: Weight of the one-to-many queries.
        o2m_matcher_on_aux: Let ``o2m_matcher`` also assign on intermediate layers.
        scale_by_prompts: Multiply the total by sqrt(P).
        normalization: The number of objects that sums are divided by, at least 1: that of all processes
            (``global``), this process's own (``local``), or 1 (``none``); see ``normalization.py``.
        semantic: Loss of the semantic map, if any.
    """

    def __init__(
        self,
        terms: Sequence[LossTerm],
        matcher: HungarianMatcher,
        o2m_matcher: OneToManyMatcher,
        *,
        o2m_weight: float = 2.0,
        o2m_matcher_on_aux: bool = False,
        scale_by_prompts: bool = True,
        normalization: Literal["global", "local", "none"] = "global",
        semantic: SemanticLoss | None = None,
    ) -> None:
        super().__init__()
        if normalization not in ("global", "local", "none"):
            raise ConfigError(f"Criterion.normalization must be global, local or none, got {normalization!r}")
        if not terms:
            raise ConfigError("Criterion.terms is empty; name at least one loss term")
        self.terms = list(terms)
        self.matcher = matcher
        self.o2m_matcher = o2m_matcher
        self.o2m_weight = o2m_weight
        self.o2m_matcher_on_aux = o2m_matcher_on_aux
        self.scale_by_prompts = scale_by_prompts
        self.normalization = normalization
        self.semantic = semantic

    def forward(self, output: DetectorOutput, targets: Targets, share: Share | None = None) -> Losses:
        """Loss of one batch, or of the share of it that is here.

        Raises:
            NonFiniteCostError: The network's predictions are NaN or infinite.
        """
        share = share or Share.whole(targets)
        with torch.autocast(targets.boxes.device.type, enabled=False):
            num_boxes = self._num_boxes(targets, share)
            branches = self._branches(output)
            total, parts = output.one_to_one.logits.new_zeros((), dtype=torch.float32), {}
            for branch, matches in zip(branches, self._match(branches, targets), strict=True):
                for term in self.terms:
                    if branch.is_last_layer or term.on_every_layer:
                        components = term(branch.predictions, targets, matches, num_boxes)
                        total = total + branch.weight * weighted_sum(components, term.weights)
                        parts |= _log_parts(components, term.weights, branch)
            if self.semantic is not None:
                components = self._semantic(self.semantic, output, targets)
                total = total + weighted_sum(components, self.semantic.weights)
                parts |= {name: value.detach() for name, value in components.items()}
            root = math.sqrt(share.prompts) if self.scale_by_prompts else 1.0
            return Losses(total * (root * share.factor), parts)

    def _num_boxes(self, targets: Targets, share: Share) -> Tensor:
        """What sums over objects are divided by, a scalar."""
        counts = {
            "global": share.of_objects(share.objects),
            "local": share.of_own_objects(len(targets.boxes)),
            "none": share.of_objects(1),
        }
        return torch.full((), float(counts[self.normalization]), device=targets.boxes.device)

    def _branches(self, output: DetectorOutput) -> list[_Branch]:
        """One-to-one and one-to-many queries of the last layer, then of each intermediate one."""
        layers = [("", output.one_to_one, output.one_to_many)]
        many = output.aux_one_to_many or [None] * len(output.aux_one_to_one)
        for index, (one, two) in enumerate(zip(output.aux_one_to_one, many, strict=True)):
            layers.append((f"_aux_{index}", one, two))
        branches = []
        for suffix, one, two in layers:
            is_last = suffix == ""
            branches.append(_Branch(one, suffix, 1.0, is_last, is_one_to_many=False))
            if two is not None:
                branches.append(_Branch(two, f"{suffix}_o2m", self.o2m_weight, is_last, is_one_to_many=True))
        return branches

    def _match(self, branches: Sequence[_Branch], targets: Targets) -> list[Matches]:
        """The matches of each branch; all Hungarian assignments share one transfer to the CPU."""
        takes_many = [b.is_one_to_many and (b.is_last_layer or self.o2m_matcher_on_aux) for b in branches]
        one = iter(self.matcher.match_layers(_where(branches, takes_many, False), targets))
        many = iter(self.o2m_matcher.match_layers(_where(branches, takes_many, True), targets))
        return [next(many if takes else one) for takes in takes_many]

    @staticmethod
    def _semantic(loss: SemanticLoss, output: DetectorOutput, targets: Targets) -> dict[str, Tensor]:
        if output.semantic_logits is None:
            raise ConfigError(
                "the criterion has a semantic loss, but the model makes no semantic map; build the model with "
                "enable_segmentation=true or set the semantic loss to null"
            )
        wants_presence = "loss_semantic_presence" in loss.weights
        return loss(output.semantic_logits, targets, output.one_to_one.presence_logits if wants_presence else None)


def _where(branches: Sequence[_Branch], flags: Sequence[bool], wanted: bool) -> list[QueryPredictions]:
    return [branch.predictions for branch, flag in zip(branches, flags, strict=True) if flag == wanted]


def _log_parts(components: Mapping[str, Tensor], weights: Mapping[str, float], branch: _Branch) -> dict[str, Tensor]:
    """Components under their full names; losses of the branch carry its weight, metrics do not."""
    factors = {name: branch.weight if name in weights else 1.0 for name in components}
    return {f"{name}{branch.suffix}": value.detach() * factors[name] for name, value in components.items()}
