"""What was found on the frames of a video, compressed and in a ring: the oldest frames go when there is no room."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sam3.errors import ForgottenFrameError
from sam3.ops import rle

_BYTES_PER_OBJECT = 250  # of Python's own around the runs of one mask: two dictionary entries, a text, a number
_BYTES_PER_FRAME = 900  # of an empty frame


@dataclass
class FrameResult:
    """One frame, before anything is hidden."""

    runs: dict[int, str]  # id -> run lengths of its mask at the size of the video
    tracker_scores: dict[int, float]  # id -> how sure the tracker is of it here
    hidden: set[int] = field(default_factory=set)  # ids that do not show here
    num_dropped: int = 0  # objects that found no place here
    unconfirmed: set[int] = field(default_factory=set)  # ids that were not detected often enough yet

    @property
    def num_bytes(self) -> int:
        return _BYTES_PER_FRAME + sum(len(text) + _BYTES_PER_OBJECT for text in self.runs.values())


@dataclass
class Results:
    """
    Args:
        size: (height, width) of the masks.
    """

    size: tuple[int, int]
    frames: dict[int, FrameResult] = field(default_factory=dict)  # in the order in which they were worked off
    forgotten: tuple[int, int] | None = None  # lowest and highest frame that went
    _bytes: dict[int, int] = field(default_factory=dict, init=False)
    _uses: Counter[int] = field(default_factory=Counter, init=False)  # id -> frames that hold it
    num_bytes: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for frame, result in self.frames.items():
            self._count(frame, result)

    def __contains__(self, frame: int) -> bool:
        return frame in self.frames

    def __len__(self) -> int:
        return len(self.frames)

    # --- writing ---

    def put(self, frame: int, masks: Mapping[int, Tensor], result: FrameResult) -> None:
        """Replace everything that is known of a frame; ``masks``: id -> (H, W) bool."""
        self._take_out(frame)
        result.runs = {obj_id: rle.encode(mask.cpu().numpy())["counts"] for obj_id, mask in masks.items()}
        self.frames[frame] = result
        self._count(frame, result)

    def put_object(self, frame: int, obj_id: int, mask: Tensor, tracker_score: float) -> None:
        """Replace one object on a frame; ``mask``: (H, W) bool."""
        result = self.frames.setdefault(frame, FrameResult({}, {}))
        self._uncount(frame, result)
        result.runs[obj_id] = rle.encode(mask.cpu().numpy())["counts"]
        result.tracker_scores[obj_id] = tracker_score
        self._count(frame, result)

    def remove_object(self, obj_id: int) -> None:
        """The object was on no frame."""
        for frame, result in self.frames.items():
            if obj_id in result.runs:
                self._uncount(frame, result)
                del result.runs[obj_id]
                result.tracker_scores.pop(obj_id, None)
                self._count(frame, result)

    def unhide(self, obj_id: int) -> None:
        """The object shows wherever it is."""
        for result in self.frames.values():
            result.hidden.discard(obj_id)
            result.unconfirmed.discard(obj_id)

    def trim(self, limit: int | None, *, waiting: Collection[int] = ()) -> None:
        """Let frames go, the one worked off first before the others, until ``limit`` bytes are enough.

        Args:
            waiting: frames that nobody has seen yet; they stay.
        """
        while limit is not None and self.num_bytes > limit:
            frame = next((frame for frame in self.frames if frame not in waiting), None)
            if frame is None:
                return
            self._take_out(frame)
            low, high = self.forgotten or (frame, frame)
            self.forgotten = min(low, frame), max(high, frame)

    # --- reading ---

    @property
    def obj_ids(self) -> Collection[int]:
        """Ids of all objects on the frames that are kept."""
        return self._uses.keys()

    def masks(self, frame: int) -> dict[int, Tensor]:
        """Id -> (H, W) bool.

        Raises:
            ForgottenFrameError: the frame went.
        """
        size = list(self.size)
        return {
            obj_id: torch.from_numpy(rle.decode({"size": size, "counts": text}))
            for obj_id, text in self.at(frame).runs.items()
        }

    def at(self, frame: int) -> FrameResult:
        """What is known of a frame.

        Raises:
            ForgottenFrameError: the frame went.
        """
        self.require(frame)
        return self.frames[frame]

    def require(self, frame: int) -> None:
        """Raise :class:`ForgottenFrameError` where ``frame`` was worked off and went since."""
        if frame not in self.frames and self.forgotten is not None:
            low, high = self.forgotten
            if low <= frame <= high:
                kept = f"frames {min(self.frames)} .. {max(self.frames)}" if self.frames else "none"
                raise ForgottenFrameError(
                    f"the results of frame {frame} are no longer kept (kept: {kept}); give a larger memory_budget, "
                    "or reset the session and propagate again"
                )

    # --- parts ---

    def _take_out(self, frame: int) -> None:
        if (result := self.frames.pop(frame, None)) is not None:
            self._uncount(frame, result)

    def _count(self, frame: int, result: FrameResult) -> None:
        self._bytes[frame] = result.num_bytes
        self.num_bytes += result.num_bytes
        self._uses.update(result.runs.keys())

    def _uncount(self, frame: int, result: FrameResult) -> None:
        self.num_bytes -= self._bytes.pop(frame, 0)
        for obj_id in result.runs:
            self._uses[obj_id] -= 1
            if self._uses[obj_id] <= 0:
                del self._uses[obj_id]
