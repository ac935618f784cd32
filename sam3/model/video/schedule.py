"""Frame numbers only: in which order a video is worked off, when outputs leave, what the next propagation has to do.

Source: spec/tracker_video.md 4.5, 6.12, 6.13, 7.5.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from sam3.model.tracker.memory_bank import frame_order

T = TypeVar("T")


def video_order(start: int, num_frames: int, *, limit: int | None = None, is_reverse: bool = False) -> list[int]:
    """Frames of the video model; backward without the start itself, which the forward pass has answered."""
    return frame_order(start, num_frames, limit=limit, is_reverse=is_reverse)[1 if is_reverse else 0 :]


class DelayBuffer(Generic[T]):
    """Holds outputs back until ``delay`` of them wait, so that what turns out wrong within that time never shows."""

    def __init__(self, delay: int) -> None:
        self.delay = delay
        self._waiting: deque[T] = deque()

    def push(self, item: T, *, is_last: bool) -> list[T]:
        """Add the output of a frame; returns what may leave now, everything after the last frame."""
        self._waiting.append(item)
        if is_last or not self.delay:
            ready = list(self._waiting)
            self._waiting.clear()
            return ready
        return [self._waiting.popleft()] if len(self._waiting) >= self.delay else []


def detection_chunk(frame: int, num_frames: int, size: int) -> range:
    """The aligned group of ``size`` frames whose detections are computed together."""
    begin = frame // size * size
    return range(begin, min(begin + size, num_frames))


class ActionKind(Enum):
    """What happened to a session."""

    ADD = "add"
    REFINE = "refine"
    REMOVE = "remove"
    FULL = "propagation_full"  # detect and track everything
    PARTIAL = "propagation_partial"  # track the objects that were added or corrected
    FETCH = "propagation_fetch"  # hand out what is known


PROPAGATIONS = (ActionKind.FULL, ActionKind.PARTIAL, ActionKind.FETCH)


@dataclass(frozen=True)
class Action:
    """One entry of a session's history."""

    kind: ActionKind
    frame: int | None = None
    obj_ids: tuple[int, ...] | None = None


def next_propagation(history: Sequence[Action], num_frames: int) -> Action:
    """What the next propagation has to do, from what was done so far."""
    if not history:
        return Action(ActionKind.FULL)
    last = history[-1]
    if last.kind is ActionKind.FETCH:
        return Action(ActionKind.FETCH)
    if last.kind in (ActionKind.FULL, ActionKind.PARTIAL):
        repeated = len(history) > 1 and history[-2].kind in (ActionKind.FULL, ActionKind.PARTIAL)
        if repeated or last.frame in (0, num_frames - 1):
            return Action(ActionKind.FETCH)
        return Action(last.kind, obj_ids=last.obj_ids)  # the other direction
    changed = sorted(set(_changed_since_propagation(history)))
    return Action(ActionKind.PARTIAL, obj_ids=tuple(changed)) if changed else Action(ActionKind.FETCH)


def _changed_since_propagation(history: Iterable[Action]) -> Iterator[int]:
    for action in reversed(list(history)):
        if action.kind in PROPAGATIONS:
            return
        if action.kind in (ActionKind.ADD, ActionKind.REFINE):
            yield from action.obj_ids or ()
