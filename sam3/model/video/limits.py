"""What one video may keep, and how much memory that takes (docs/video_memory.md)."""

from dataclasses import dataclass, replace

from sam3.config import TrackerConfig

FLOAT32, BFLOAT16 = 4, 2  # bytes
GIB = 2**30


@dataclass(frozen=True)
class MemoryLimits:
    """``None`` = no limit.

    Args:
        tracker_bytes: of what the tracker remembers, all objects together.
        result_bytes: of the compressed masks of frames that were worked off; 0 = none once they are handed out.
        max_objects: that are tracked at a time.
        source_frames: decoded frames of a video file or stream.
    """

    tracker_bytes: int | None = None
    result_bytes: int | None = None
    max_objects: int | None = None
    source_frames: int = 32

    def shared_by(self, phrases: int) -> "MemoryLimits":
        """What each of several phrases of a video may keep: the same for all, so that none depends on another."""

        def share(value: int | None) -> int | None:
            return None if value is None else value // max(1, phrases)

        objects = share(self.max_objects)
        return replace(
            self,
            tracker_bytes=share(self.tracker_bytes),
            result_bytes=share(self.result_bytes),
            max_objects=None if objects is None else max(1, objects),
        )

    def for_one_pass(self) -> "MemoryLimits":
        """Where nobody clicks, and nothing is handed out twice, the past has no use beyond what tracking remembers."""
        return replace(self, tracker_bytes=0, result_bytes=0)

    def tracker_window(self, num_objects: int, config: TrackerConfig) -> int | None:
        """Frames on both sides of the current one whose whole memory is kept; ``None`` = all."""
        if self.tracker_bytes is None:
            return None
        room = self.tracker_bytes / max(1, num_objects) - bytes_needed_later(config)
        return max(smallest_window(config), int(room / bytes_per_frame(config) / 2))


DEFAULT_LIMITS = MemoryLimits(tracker_bytes=4 * GIB, result_bytes=GIB)  # of sessions without a memory_budget


def smallest_window(config: TrackerConfig) -> int:
    """Frames that tracking without memory selection looks back."""
    return config.max_pointers * config.memory_stride


def bytes_per_map(config: TrackerConfig) -> int:
    """Of the memory of one object on one frame."""
    return BFLOAT16 * config.memory_dim * config.grid_size**2


def bytes_per_pointer(config: TrackerConfig) -> int:
    """Of the pointer and the scores of one object on one frame."""
    return FLOAT32 * (config.d_model + 3)


def bytes_per_frame(config: TrackerConfig) -> int:
    """Of everything that is remembered of one object on one frame."""
    return bytes_per_map(config) + FLOAT32 * config.low_res_size**2 + bytes_per_pointer(config)


def bytes_needed_later(config: TrackerConfig) -> int:
    """Of one object, beyond the window: see :func:`~sam3.model.tracker.memory_bank.needed_later`."""
    prompted, maps, pointers = config.max_cond_frames + 1, config.num_maskmem, config.max_pointers
    stride = config.memory_stride
    per_side = (
        prompted * bytes_per_frame(config)
        + maps * stride * bytes_per_map(config)
        + pointers * stride * bytes_per_pointer(config)
    )
    return 3 * per_side  # the first, the last, and the nearest behind
