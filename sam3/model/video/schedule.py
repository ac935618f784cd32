"""Frame numbers only: in which order a video is worked off, when outputs leave, what the next propagation has to do.

Source: spec/tracker_video.md 4.5, 6.12, 6.13, 7.5.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from sam3.model.tracker.memory_bank import frame_order

T = TypeVar("T")


def video_order(start: int, num_frames: int, *, limit: int | None = None, is_reverse: bool = False) -> list[int]:
    """Frames of the video model; backward without the start itself, which the forward pass has answered."""
    return frame_order(start, num_frames, limit=limit, is_reverse=is_reverse)[1 if is_reverse else 0 :]


class DelayBuffer(Generic[T]):
    """Holds outputs back until ``delay`` of them wait, so that what turns out wrong within that time never shows."""

    def __init__(self, delay: int, waiting: Iterable[T] = ()) -> None:
        self.delay = delay
        self._waiting: deque[T] = deque(waiting)

    def __iter__(self) -> Iterator[T]:
        return iter(self._waiting)

    def push(self, item: T, *, is_last: bool) -> list[T]:
        """Add the output of a frame; returns what may leave now, everything after the last frame."""
        self._waiting.append(item)
        if is_last or not self.delay:
            ready = list(self._waiting)
            self._waiting.clear()
            return ready
        return [self._waiting.popleft()] if len(self._waiting) >= self.delay else []


@dataclass(frozen=True)
class _Ahead:
    """Frames from one on, as far as the video goes."""

    first: int | None
    last: int | None
    has_frame: Callable[[int], bool]

    def __contains__(self, frame: object) -> bool:
        if self.first is None or frame < self.first or (self.last is not None and frame > self.last):
            return False
        return self.has_frame(frame)


@dataclass
class Pass:
    """A propagation under way; what is written here says how to go on with it.

    Args:
        action: what is done on each frame.
        first_frame: of the pass.
        next_frame: to be worked off next; None = every frame is.
        last_frame: of the pass; None = wherever a video of unknown length ends.
        is_reverse: from late frames to early ones.
        delayed: frames that were worked off and wait until it is known what was a mistake.
        ready: frames whose turn it is to be handed out.
        in_any_direction: a frame that was worked off in whatever direction is not worked off again.
    """

    action: "Action"
    first_frame: int
    next_frame: int | None
    last_frame: int | None
    is_reverse: bool
    delayed: DelayBuffer[int] = field(default_factory=lambda: DelayBuffer(0))
    ready: deque[int] = field(default_factory=deque)
    in_any_direction: bool = False

    @classmethod
    def over(
        cls,
        action: "Action",
        start: int,
        num_frames: int | None,
        *,
        limit: int | None = None,
        is_reverse: bool = False,
        delay: int = 0,
    ) -> "Pass":
        """The frames of :func:`video_order`, without naming them all; ``num_frames`` None = unknown."""
        if is_reverse:
            first, last = start - 1, max(0, start - limit) if limit is not None else 0
            is_empty = first < last
        else:
            ends = ([] if limit is None else [start + limit]) + ([] if num_frames is None else [num_frames - 1])
            first, last = start, min(ends, default=None)
            is_empty = last is not None and start > last
        return cls(action, first, None if is_empty else first, last, is_reverse, DelayBuffer(delay))

    def frames(self, has_frame: Callable[[int], bool] | None = None) -> Container[int]:
        """All frames of the pass, or, of a video of unknown length, those that are still to come."""
        if has_frame is not None and not self.is_reverse:
            return _Ahead(self.next_frame, self.last_frame, has_frame)
        step = -1 if self.is_reverse else 1
        return range(self.first_frame, self.last_frame + step, step)

    @property
    def waiting(self) -> set[int]:
        """Frames that were worked off and not handed out."""
        return {*self.delayed, *self.ready}

    def joined(self, delay: int) -> "Pass":
        """The same for somebody who comes later: from the first frame on that was not handed out yet."""
        left = [*self.waiting, *([] if self.next_frame is None else [self.next_frame])]
        first = (max if self.is_reverse else min)(left, default=None)
        return Pass(
            Action(ActionKind.FULL), self.first_frame, first, self.last_frame, self.is_reverse, DelayBuffer(delay)
        )

    def owes(self, frame: int) -> bool:
        """Whether a frame waits, or is still to be worked off."""
        if self.next_frame is not None and (frame <= self.next_frame if self.is_reverse else frame >= self.next_frame):
            return True
        return frame in self.delayed

    def advance(self, has_frame: Callable[[int], bool] | None = None) -> None:
        """The next frame was worked off.

        Args:
            has_frame: whether the video, of unknown length, has a frame.
        """
        done, step = self.next_frame, -1 if self.is_reverse else 1
        following = done + step
        is_last = done == self.last_frame
        if not (is_last or self.is_reverse or has_frame is None):
            is_last = not has_frame(following)
        self.next_frame = None if is_last else following
        self.ready.extend(self.delayed.push(done, is_last=is_last))


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


def next_propagation(history: Sequence[Action], num_frames: int | None) -> Action:
    """What the next propagation has to do, from what was done so far; ``num_frames`` None = unknown."""
    if not history:
        return Action(ActionKind.FULL)
    last = history[-1]
    if last.kind is ActionKind.FETCH:
        return Action(ActionKind.FETCH)
    if last.kind in (ActionKind.FULL, ActionKind.PARTIAL):
        repeated = len(history) > 1 and history[-2].kind in (ActionKind.FULL, ActionKind.PARTIAL)
        if repeated or last.frame == 0 or (num_frames is not None and last.frame == num_frames - 1):
            return Action(ActionKind.FETCH)
        return Action(last.kind, obj_ids=last.obj_ids)  # the other direction
    changed = sorted(set(_changed_since_propagation(history)))
    return Action(ActionKind.PARTIAL, obj_ids=tuple(changed)) if changed else Action(ActionKind.FETCH)


def shortened(history: Sequence[Action]) -> list[Action]:
    """The part of a history that :func:`next_propagation` can still ask for."""
    propagations = [index for index, action in enumerate(history) if action.kind in PROPAGATIONS]
    return list(history[propagations[-2] :] if len(propagations) > 1 else history)


def _changed_since_propagation(history: Iterable[Action]) -> Iterator[int]:
    for action in reversed(list(history)):
        if action.kind in PROPAGATIONS:
            return
        if action.kind in (ActionKind.ADD, ActionKind.REFINE):
            yield from action.obj_ids or ()
