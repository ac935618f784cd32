"""Which frames of a video were worked off, in which direction."""

from dataclasses import dataclass, field


@dataclass
class Coverage:
    """Frames in ranges, so that a pass over a video of any length costs one of them."""

    forward: list[tuple[int, int]] = field(default_factory=list)  # first and last frame of each range
    backward: list[tuple[int, int]] = field(default_factory=list)
    latest: tuple[int, bool] | None = None  # the frame added last, and whether it was on the way backward

    def add(self, frame: int, *, is_reverse: bool) -> None:
        """The frame was worked off."""
        self.latest = frame, is_reverse
        ranges = self.backward if is_reverse else self.forward
        joined = (frame, frame)
        for low, high in list(ranges):
            if low - 1 <= frame <= high + 1:
                ranges.remove((low, high))
                joined = min(low, joined[0]), max(high, joined[1])
        ranges.append(joined)

    def holds(self, frame: int, *, is_reverse: bool, in_any_direction: bool = False) -> bool:
        """Whether the frame was worked off in that direction."""
        ranges = self.backward if is_reverse else self.forward
        if in_any_direction:
            ranges = self.forward + self.backward
        return any(low <= frame <= high for low, high in ranges)

    def is_continued_by(self, frame: int, *, is_reverse: bool) -> bool:
        """Whether ``frame`` follows the one that was added last."""
        return self.latest == (frame + 1 if is_reverse else frame - 1, is_reverse)
