"""Which objects live: young mistakes are removed, hidden ones wait (spec/tracker_video.md 6.6, 6.10).

Bookkeeping on ids and frame numbers; knows no mask and no network.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sam3.model.video.settings import VideoSettings


@dataclass
class HotStart:
    """What is counted about every object since it appeared."""

    first_frame: dict[int, int] = field(default_factory=dict)
    unmatched_frames: dict[int, list[int]] = field(default_factory=dict)
    keep_alive: dict[int, int] = field(default_factory=dict)
    shared: dict[tuple[int, int], list[int]] = field(default_factory=dict)  # (older, younger) -> frames
    removed: set[int] = field(default_factory=set)

    def update(
        self,
        frame: int,
        *,
        new: Iterable[int],
        matches: Mapping[int, Sequence[int]],
        unmatched: Iterable[int],
        empty: Iterable[int],
        settings: VideoSettings,
        is_reverse: bool = False,
        exempt: Collection[int] = (),
    ) -> tuple[set[int], set[int]]:
        """Count one frame.

        Args:
            new: ids that appear on this frame.
            matches: detection -> ids it overlaps.
            unmatched: ids that are there but overlap no detection enough.
            empty: ids without a pixel.
            exempt: ids that a person vouches for.

        Returns:
            Ids to remove for good from now on, and ids to hide on this frame.
        """
        for obj_id in new:
            self.first_frame.setdefault(obj_id, frame)
            self.keep_alive[obj_id] = settings.keep_alive_initial
        self._count_seen(frame, matches, unmatched, empty, settings)
        self._count_shared(frame, matches, is_reverse)
        edge = frame + settings.hotstart_delay if is_reverse else frame - settings.hotstart_delay

        def is_young(obj_id: int) -> bool:
            first = self.first_frame[obj_id]
            return first < edge if is_reverse else first > edge

        removed, hidden = self._judge_unmatched(is_young, settings)
        removed |= {
            younger
            for (_, younger), frames in self.shared.items()
            if younger not in self.removed and is_young(younger) and len(frames) >= settings.hotstart_duplicate
        }
        removed, hidden = removed - set(exempt), hidden - set(exempt)
        self.removed |= removed
        return removed, hidden

    def forget(self, obj_id: int) -> None:
        """A person removed the object: nothing about it is counted any more."""
        for counts in (self.first_frame, self.unmatched_frames, self.keep_alive):
            counts.pop(obj_id, None)
        self.shared = {pair: frames for pair, frames in self.shared.items() if obj_id not in pair}

    def keep_only(self, obj_ids: Collection[int], settings: VideoSettings) -> None:
        """Forget all other objects, and of the frames of these the ones that decide nothing any more."""
        for counts in (self.first_frame, self.unmatched_frames, self.keep_alive):
            for obj_id in [obj_id for obj_id in counts if obj_id not in obj_ids]:
                del counts[obj_id]
        for pair in [pair for pair in self.shared if not (pair[0] in obj_ids and pair[1] in obj_ids)]:
            del self.shared[pair]
        self.removed &= set(obj_ids)
        for frames in self.unmatched_frames.values():
            del frames[: -max(1, settings.hotstart_unmatched)]
        for frames in self.shared.values():
            del frames[: -max(1, settings.hotstart_duplicate)]

    def _count_seen(
        self,
        frame: int,
        matches: Mapping[int, Sequence[int]],
        unmatched: Iterable[int],
        empty: Iterable[int],
        settings: VideoSettings,
    ) -> None:
        for obj_id in {obj_id for objects in matches.values() for obj_id in objects}:
            self._step(obj_id, 1, settings)
        for obj_id in unmatched:
            self.unmatched_frames.setdefault(obj_id, []).append(frame)
            self._step(obj_id, -1, settings)
        if settings.keep_alive_counts_empty:
            for obj_id in empty:
                self._step(obj_id, -1, settings)

    def _step(self, obj_id: int, change: int, settings: VideoSettings) -> None:
        value = self.keep_alive.get(obj_id, settings.keep_alive_initial) + change
        self.keep_alive[obj_id] = min(settings.keep_alive_max, max(settings.keep_alive_min, value))

    def _count_shared(self, frame: int, matches: Mapping[int, Sequence[int]], is_reverse: bool) -> None:
        """Objects that share a detection with one that was there before them."""
        for objects in matches.values():
            if len(objects) < 2:
                continue
            choose = max if is_reverse else min
            oldest = choose(objects, key=lambda obj_id: self.first_frame[obj_id])
            for obj_id in objects:
                if obj_id != oldest:
                    self.shared.setdefault((oldest, obj_id), []).append(frame)

    def _judge_unmatched(self, is_young, settings: VideoSettings) -> tuple[set[int], set[int]]:
        removed, hidden = set(), set()
        for obj_id, frames in self.unmatched_frames.items():
            if obj_id in self.removed:
                continue
            if len(frames) >= settings.hotstart_unmatched and is_young(obj_id):
                removed.add(obj_id)
            elif self.keep_alive[obj_id] <= 0 and not settings.hide_unmatched_only_when_young:
                hidden.add(obj_id)
        return removed, hidden


@dataclass
class Confirmation:
    """Detections in a row; an object shows once it had enough of them (off by default)."""

    in_a_row: dict[int, int] = field(default_factory=dict)
    confirmed: set[int] = field(default_factory=set)

    def update(self, obj_ids: Sequence[int], *, new: Iterable[int], matched: Iterable[int], needed: int) -> None:
        """Count one frame for the objects that are there; those that are gone are forgotten."""
        seen = {*new, *matched}
        self.in_a_row = {obj_id: self.in_a_row.get(obj_id, 0) + 1 if obj_id in seen else 0 for obj_id in obj_ids}
        confirmed = {obj_id for obj_id, count in self.in_a_row.items() if count >= needed}
        self.confirmed = (self.confirmed & set(obj_ids)) | confirmed
