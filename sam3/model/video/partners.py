"""The processes that work on one video together, each with the same calls in the same order.

Every process does its share of the frames of a chunk and gets what the others found. An error of one is the error of
all: nobody waits for a partner that gave up. Source: spec/tracker_video.md 6.13; its 11.29 is fixed.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sam3.errors import UserError

T = TypeVar("T")


class PartnerFailed(RuntimeError):
    """Another process failed; the message is its own."""


@dataclass(frozen=True)
class Partners:
    """
    Args:
        group: the process group; it must carry tensors of the CPU (Gloo). None = this process is alone.
    """

    group: dist.ProcessGroup | None = None

    @property
    def rank(self) -> int:
        return 0 if self.group is None else self.group.rank()

    @property
    def size(self) -> int:
        return 1 if self.group is None else self.group.size()

    def share(self, work: Callable[[], T]) -> list[T]:
        """What ``work`` gives in every process, by their numbers; all of them must call this.

        Raises:
            UserError: of the process that failed, if it was one.
            PartnerFailed: another process failed in another way.
        """
        if self.group is None:
            return [work()]
        outcomes = [pickle.loads(data) for data in self._gathered(pickle.dumps(_outcome(work)))]
        for rank, (error, _) in enumerate(outcomes):
            if error is not None:
                if rank == self.rank or isinstance(error, UserError):
                    raise error
                raise PartnerFailed(f"process {rank} failed: {type(error).__name__}: {error}")
        return [value for _, value in outcomes]

    def portable(self, value: T) -> T:
        """Tensors, or what has a ``cpu()``, as they can travel: on the CPU. Alone, nothing travels."""
        if self.group is None:
            return value
        return [item.cpu() for item in value] if isinstance(value, list) else value.cpu()

    def _gathered(self, data: bytes) -> list[bytes]:
        """The bytes of every process, by their numbers."""
        lengths = [int(length) for length in self._all(torch.tensor([len(data)]))]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        every = self._all(padded)
        return [values[:length].numpy().tobytes() for values, length in zip(every, lengths, strict=True)]

    def _all(self, value: Tensor) -> list[Tensor]:
        values = [torch.empty_like(value) for _ in range(self.size)]
        self.group.allgather([values], [value]).wait()
        return values


def _outcome(work: Callable[[], Any]) -> tuple[Exception | None, Any]:
    try:
        return None, work()
    except Exception as error:  # it is raised again, here and by the partners
        return error, None


ALONE = Partners()
