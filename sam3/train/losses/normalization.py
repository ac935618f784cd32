"""What a process divides its loss by, so that several processes learn what one would from the same images.

Let a batch of P prompts with N objects be split over W processes; process r has ``P_r`` prompts. Loss terms come in
two kinds: sums over objects divided by a number of objects (boxes, masks), and means over prompts (class, presence).
With ``S_r`` the sum and ``M_r`` the mean of process r, one process alone would compute

    L = sqrt(P) * ( sum_r S_r / max(1, N)  +  sum_r P_r / P * M_r )

The engines average gradients over processes, so the local losses ``L_r`` must satisfy ``mean_r L_r = L``. With the
share ``f_r = P_r / P`` that holds for

    L_r = sqrt(P) * W * f_r * ( S_r / n_r + M_r )        n_r = f_r * max(1, N)

So all that a process needs to know of the others is P and N. Its terms get ``n_r`` for the number of objects and
need not know of processes at all; the sum of ``f_r`` times a logged part is that part for the whole batch. A process
whose prompts have no objects has ``S_r = 0`` and keeps its means; one without any image has ``f_r = 0``. For W = 1
this is spec/training.md 6.1. The reference clamps after dividing (``max(1, N / W)``) and takes the root of the
process's own prompts, so there the number of processes changes the loss.

Means over something else than prompts (``ClassificationLoss.weak_loss``, ``SemanticLoss.only_present``) are averaged
over the processes in proportion to their prompts, too, which is an approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sam3.structures import Batch, Targets
from sam3.train import distributed


@dataclass(frozen=True)
class Share:
    """What part of a batch is worked on here."""

    prompts: int  # P, of all processes
    objects: int  # N, of all processes
    fraction: float = 1.0  # of the prompts that are here; 0 = none, whatever the process computes
    processes: int = 1
    images: int = 0  # of all processes
    own_objects: int | None = None  # of the whole share, where what is judged is a part of it; None = all is judged
    part_of_own: float = 1.0  # of this process's prompts that are judged

    @classmethod
    def whole(cls, targets: Targets) -> Share:
        """All of it."""
        return cls(prompts=len(targets), objects=len(targets.boxes))

    @property
    def factor(self) -> float:
        """What the loss counts here, before the root of P."""
        return self.fraction * self.processes

    def part(self, fraction: float, own_objects: int) -> Share:
        """The share of a part with ``fraction`` of the prompts that are here, of ``own_objects`` objects in all."""
        return replace(self, fraction=self.fraction * fraction, part_of_own=fraction, own_objects=own_objects)

    def of_own_objects(self, judged: int) -> float:
        """The objects of this process (at least 1) in proportion to the judged part; ``judged`` if that is all."""
        return max(1, judged if self.own_objects is None else self.own_objects) * self.part_of_own

    def of_objects(self, count: int) -> float:
        """``count`` (at least 1) in proportion to the share."""
        return max(1, count) * (self.fraction or 1.0)


def agree_on_shares(parts: Sequence[Batch], slots: int) -> list[Share]:
    """The share of this process in each micro-batch; called by all processes.

    Args:
        parts: the micro-batches of this process; part i of all processes makes up micro-batch i.
        slots: micro-batches of a step, at most.

    Returns:
        As many shares as the process with most parts has; more than ``parts`` where this one has fewer.
    """
    own = torch.zeros(slots, 3, dtype=torch.float64)
    for row, part in zip(own, parts, strict=False):
        row.copy_(torch.tensor([len(part), part.num_prompts, part.num_objects]))
    everyone = distributed.total(own)
    return [
        Share(
            prompts=int(prompts),
            objects=int(objects),
            fraction=float(here / prompts) if prompts else 0.0,
            processes=distributed.world_size(),
            images=int(images),
        )
        for (images, prompts, objects), here in zip(everyone, own[:, 1], strict=True)
        if images
    ]
