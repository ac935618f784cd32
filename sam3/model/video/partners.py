"""The processes that work on one video together, each with the same calls in the same order.

Every process does its share of the frames of a chunk and gets what the others found. An error of one is the error of
all: nobody waits for a partner that gave up. Source: spec/tracker_video.md 6.13; its 11.29 is fixed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist

from sam3.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Partners:
    """
    Args:
        group: the process group; None = this process is alone.
    """

    group: dist.ProcessGroup | None = None

    @property
    def rank(self) -> int:
        return 0 if self.group is None else dist.get_rank(self.group)

    @property
    def size(self) -> int:
        return 1 if self.group is None else dist.get_world_size(self.group)

    def share(self, work: Callable[[], T]) -> list[T]:
        """What ``work`` gives in every process, by their numbers; all of them must call this.

        Raises:
            UserError: of the process that failed, if it was one.
            PartnerFailed: another error; of the first process that failed.
        """
        if self.group is None:
            return [work()]
        outcomes: list[Any] = [None] * self.size
        dist.all_gather_object(outcomes, self._outcome(work), group=self.group)
        for rank, (error, _) in enumerate(outcomes):
            if error is not None:
                raise error if rank == self.rank or isinstance(error, UserError) else PartnerFailed(rank, error)
        return [value for _, value in outcomes]

    def portable(self, value: T) -> T:
        """Tensors, or what has a ``cpu()``, as they can travel: on the CPU. Alone, nothing travels."""
        if self.group is None:
            return value
        return [item.cpu() for item in value] if isinstance(value, list) else value.cpu()

    def _outcome(self, work: Callable[[], T]) -> tuple[Exception | None, T | None]:
        try:
            return None, work()
        except Exception as error:  # it is raised again, here and by the partners
            return error, None


class PartnerFailed(RuntimeError):
    """Another process failed."""

    def __init__(self, rank: int, error: Exception) -> None:
        super().__init__(f"process {rank} failed: {type(error).__name__}: {error}")


ALONE = Partners()
