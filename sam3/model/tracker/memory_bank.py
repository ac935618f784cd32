"""What is remembered of each frame, and which of it a frame attends to (spec/tracker_video.md 3).

Frames that were prompted are *conditioning* frames; the others are remembered as they are tracked. Choosing is pure
arithmetic on frame numbers and scores; the network never decides.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sam3.config import TrackerConfig


@dataclass
class FrameMemory:
    """What is kept of one frame for B objects."""

    memory: Tensor | None  # (B, Cm, h, w) bfloat16; None = not encoded yet
    low_res_masks: Tensor  # (B, 1, 4 h, 4 w) logits
    pointers: Tensor  # (B, C)
    object_score_logits: Tensor  # (B, 1)
    ious: Tensor | None = None  # (B,) best predicted quality
    frame_score: float | None = None  # see :func:`frame_score`; None on prompted frames


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


@dataclass(frozen=True)
class Moment:
    """The frame that remembers."""

    frame: int
    num_frames: int
    is_reverse: bool = False

    @property
    def step(self) -> int:
        return -1 if self.is_reverse else 1


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
    max_pointers = min(moment.num_frames, config.max_pointers)
    maps = [SpatialMemory(conditioning[frame], config.num_maskmem - 1) for frame in chosen]
    for row, frame in _recent_maps(moment, selected, config):
        if (entry := look_up(frame)) is not None:
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
    last = moment.num_frames - 1
    if moment.frame == (last if moment.is_reverse else 0):
        return []
    neighbour = moment.frame - moment.step
    limit = min(moment.num_frames, config.max_pointers) - 1
    end = last + 1 if moment.is_reverse else 0  # frame 0 is never looked at
    found: list[int] = []
    for frame in range(neighbour, end, -moment.step * config.memory_stride):
        if len(found) >= limit:
            break
        if scores.get(frame, -math.inf) > config.memory_selection_threshold:
            found.insert(0, frame)
    return found if neighbour in found else [*found, neighbour]


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
            if not 0 <= frame < moment.num_frames:
                return
            yield distance, frame
        elif distance < len(selected):  # the farthest of the selected frames gives no pointer
            yield distance, selected[-distance]
