"""What is remembered of each frame, and which of it a frame attends to (spec/tracker_video.md 3).

Frames that were prompted are *conditioning* frames; the others are remembered as they are tracked. Choosing is pure
arithmetic on frame numbers and scores; the network never decides.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from sam3.config import TrackerConfig


@dataclass
class FrameMemory:
    """What is kept of one frame for B objects."""

    memory: Tensor | None  # (B, Cm, h, w) bfloat16; None = not encoded yet, or let go of
    low_res_masks: Tensor | None  # (B, 1, 4 h, 4 w) logits; None = let go of
    pointers: Tensor  # (B, C)
    object_score_logits: Tensor  # (B, 1)
    ious: Tensor | None = None  # (B,) best predicted quality
    frame_score: float | None = None  # see :func:`frame_score`; None on prompted frames

    def of_rows(self, rows: list[int]) -> "FrameMemory":
        """What is attended to of some of the objects."""
        memory = None if self.memory is None else self.memory[rows]
        return replace(self, memory=memory, pointers=self.pointers[rows])


class SpatialMemory(NamedTuple):
    """A memory map and its row of the temporal code."""

    frame: FrameMemory
    row: int


class PointerMemory(NamedTuple):
    """Object pointers and how many frames ago they were made; may be 0."""

    frame: FrameMemory
    distance: int


@dataclass(frozen=True)
class Recall:
    """What a frame attends to, in order."""

    maps: tuple[SpatialMemory, ...]
    pointers: tuple[PointerMemory, ...]
    max_pointers: int  # distances are scaled by max_pointers - 1

    def of_rows(self, rows: list[int]) -> "Recall":
        """The same for some of the objects."""
        return Recall(
            tuple(entry._replace(frame=entry.frame.of_rows(rows)) for entry in self.maps),
            tuple(entry._replace(frame=entry.frame.of_rows(rows)) for entry in self.pointers),
            self.max_pointers,
        )


@dataclass(frozen=True)
class Moment:
    """The frame that remembers; ``num_frames`` None = unknown."""

    frame: int
    num_frames: int | None
    is_reverse: bool = False

    @property
    def step(self) -> int:
        return -1 if self.is_reverse else 1

    def num_pointers(self, config: TrackerConfig) -> int:
        """Scale of the time code of pointers; a video of unknown length counts as a long one."""
        return config.max_pointers if self.num_frames is None else min(self.num_frames, config.max_pointers)


def frame_order(start: int, num_frames: int, *, limit: int | None = None, is_reverse: bool = False) -> list[int]:
    """Frames in the order in which they are tracked, both ends included; at most ``limit`` frames beyond the start."""
    reach = num_frames if limit is None else limit
    if is_reverse:
        return list(range(start, max(start - reach, 0) - 1, -1))
    return list(range(start, min(start + reach, num_frames - 1) + 1))


def recall(
    moment: Moment,
    conditioning: Mapping[int, FrameMemory],
    tracked: Mapping[int, FrameMemory],
    config: TrackerConfig,
) -> Recall:
    """Which memories the frame of ``moment`` attends to.

    Args:
        conditioning: frame -> memory of the prompted frames, in the order in which they were prompted.
        tracked: frame -> memory of the others.
    """
    chosen = closest_conditioning_frames(moment.frame, list(conditioning), config.max_cond_frames)
    others = {frame: conditioning[frame] for frame in conditioning if frame not in chosen}

    def look_up(frame: int) -> FrameMemory | None:
        return tracked.get(frame) or others.get(frame)

    selected = None
    if config.use_memory_selection:
        scores = {frame: entry.frame_score for frame, entry in tracked.items() if entry.frame_score is not None}
        selected = well_seen_frames(moment, scores, config)
    max_pointers = moment.num_pointers(config)
    maps = [SpatialMemory(conditioning[frame], config.num_maskmem - 1) for frame in chosen]
    for row, frame in _recent_maps(moment, selected, config):
        if (entry := look_up(frame)) is not None and entry.memory is not None:
            maps.append(SpatialMemory(entry, row))
    pointers = [
        PointerMemory(conditioning[frame], (moment.frame - frame) * moment.step)
        for frame in chosen
        if (moment.frame - frame) * moment.step >= 0
    ]
    for distance, frame in _recent_pointers(moment, selected, max_pointers):
        if (entry := look_up(frame)) is not None:
            pointers.append(PointerMemory(entry, distance))
    return Recall(tuple(maps), tuple(pointers), max_pointers)


def closest_conditioning_frames(frame: int, conditioning: Sequence[int], limit: int) -> list[int]:
    """At most ``limit`` prompted frames: all in their order, or the closest before, the closest from ``frame`` on, and
    then the nearest of the others."""
    if limit < 0 or len(conditioning) <= limit:
        return list(conditioning)
    before = [other for other in conditioning if other < frame]
    after = [other for other in conditioning if other >= frame]
    chosen = ([max(before)] if before else []) + ([min(after)] if after else [])
    rest = sorted((other for other in conditioning if other not in chosen), key=lambda other: abs(other - frame))
    return (chosen + rest)[:limit]


def well_seen_frames(moment: Moment, scores: Mapping[int, float], config: TrackerConfig) -> list[int]:
    """Recent frames whose score passes, farthest first; the neighbour of the frame is always the last of them.

    Args:
        scores: frame -> :func:`frame_score`.
    """
    last = None if moment.num_frames is None else moment.num_frames - 1
    if moment.frame == (last if moment.is_reverse else 0):
        return []
    neighbour = moment.frame - moment.step
    passing = [
        frame
        for frame, score in scores.items()
        if score > config.memory_selection_threshold
        and frame > 0  # frame 0 is never looked at
        and (neighbour - frame) * moment.step >= 0
        and (neighbour - frame) % config.memory_stride == 0
    ]
    nearest = sorted(passing, reverse=not moment.is_reverse)[: moment.num_pointers(config) - 1]
    found = nearest[::-1]
    return found if neighbour in found else [*found, neighbour]


@dataclass(frozen=True)
class Needed:
    """Frames of which something must be kept."""

    conditioning: set[int]  # whole
    maps: set[int]  # memory and pointers
    pointers: set[int]  # pointers and scores alone are enough


def needed_later(
    moment: Moment,
    conditioning: Collection[int],
    scores: Mapping[int, float | None],
    config: TrackerConfig,
    *,
    window: int,
) -> Needed:
    """What can still be remembered by a pass that goes on from this frame, or by one back from where it began.

    The further frames of a pass remember the nearest of what lies behind them; a pass in the other direction begins
    at one end of what was tracked. Whatever lies ahead is kept: somebody prompted it.

    Args:
        conditioning: prompted frames.
        scores: tracked frame -> its score.
        window: frames on both sides that stay in any case.
    """
    stride = config.memory_stride
    near = {frame for frame in scores if abs(frame - moment.frame) <= window}
    usable = [
        frame
        for frame, score in scores.items()
        if not config.use_memory_selection or (score is not None and score > config.memory_selection_threshold)
    ]
    prompted = _nearest(moment, conditioning, config.max_cond_frames + 1)  # one more, or their order would change
    prompted |= {frame for frame in conditioning if (moment.frame - frame) * moment.step <= window}
    if not config.use_memory_selection and conditioning:  # a pass back looks at all frames near where it begins
        ends = min(conditioning), max(conditioning)
        reach = config.max_pointers * stride
        prompted |= {frame for frame in conditioning if min(abs(frame - end) for end in ends) <= reach}
    maps = _nearest(moment, usable, config.num_maskmem * stride)
    pointers = _nearest(moment, usable, config.max_pointers * stride)
    return Needed(prompted, maps | near, pointers | maps | near)


def _nearest(moment: Moment, frames: Collection[int], count: int) -> set[int]:
    """The ``count`` first, the ``count`` last, and the ``count`` nearest behind."""
    ordered = sorted(frames)
    behind = [frame for frame in ordered if (moment.frame - frame) * moment.step >= 0]
    nearest = behind[:count] if moment.is_reverse else behind[-count:]
    return {*ordered[:count], *ordered[-count:], *nearest}


def frame_score(object_score_logits: Tensor, ious: Tensor) -> float:
    """How well the objects of a frame were seen: mean presence times mean predicted quality.

    Args:
        object_score_logits: (B, 1).
        ious: (B,).
    """
    presence = (2 * object_score_logits.float().sigmoid() - 1).clamp(min=0)
    return float(presence.mean() * ious.float().mean())


def _recent_maps(moment: Moment, selected: Sequence[int] | None, config: TrackerConfig) -> Iterator[tuple[int, int]]:
    """(row of the temporal code, frame), farthest first."""
    for rank in range(config.num_maskmem - 1, 0, -1):
        if selected is None:
            yield rank - 1, _frame_ago(moment, rank, config.memory_stride)
        elif rank <= len(selected):
            yield rank - 1, selected[-rank]


def _frame_ago(moment: Moment, rank: int, stride: int) -> int:
    """The ``rank``-th remembered frame: the neighbour, then every ``stride``-th."""
    if rank == 1 or stride == 1:
        return moment.frame - moment.step * rank
    if moment.is_reverse:
        return -(-(moment.frame + 2) // stride) * stride + (rank - 2) * stride
    return (moment.frame - 2) // stride * stride - (rank - 2) * stride


def _recent_pointers(moment: Moment, selected: Sequence[int] | None, max_pointers: int) -> Iterator[tuple[int, int]]:
    """(distance, frame), nearest first."""
    for distance in range(1, max_pointers):
        if selected is None:
            frame = moment.frame - moment.step * distance
            if frame < 0 or (moment.num_frames is not None and frame >= moment.num_frames):
                return
            yield distance, frame
        elif distance < len(selected):  # the farthest of the selected frames gives no pointer
            yield distance, selected[-distance]
