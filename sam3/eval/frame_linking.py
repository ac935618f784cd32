"""The simplest way from detections to masklets: link each frame's to those of the frame before by mask IoU.

No tracker, no memory of earlier frames: what a tracker is compared with. Pure functions on masks. Legend: F frames,
D detections of a frame, N tracks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

MIN_IOU = 0.1  # the overlap by which the video model lets a detection belong to a track


@dataclass
class LinkedTrack:
    """One object."""

    masks: dict[int, np.ndarray] = field(default_factory=dict)  # frame -> (H, W) bool
    scores: dict[int, float] = field(default_factory=dict)  # frame -> score of its detection

    @property
    def last_frame(self) -> int:
        return max(self.masks)

    @property
    def score(self) -> float:
        """Mean over its frames."""
        return float(np.mean(list(self.scores.values())))


def link_frames(
    masks: Sequence[np.ndarray], scores: Sequence[np.ndarray], *, min_iou: float = MIN_IOU, max_gap: int = 0
) -> list[LinkedTrack]:
    """Tracks in the order in which they begin.

    Args:
        masks: of each frame, (D, H, W) bool.
        scores: of each frame, (D,).
        min_iou: links overlap at least so much.
        max_gap: frames without a detection that a track survives; its last mask is what the next is compared with.
    """
    tracks: list[LinkedTrack] = []
    for frame, (found, found_scores) in enumerate(zip(masks, scores, strict=True)):
        alive = [track for track in tracks if frame - track.last_frame <= 1 + max_gap]
        owner = assign([track.masks[track.last_frame] for track in alive], found, min_iou=min_iou)
        for index, mask in enumerate(found):
            if index in owner:
                track = alive[owner[index]]
            else:
                track = LinkedTrack()
                tracks.append(track)
            track.masks[frame], track.scores[frame] = mask, float(found_scores[index])
    return tracks


def assign(known: Sequence[np.ndarray], found: np.ndarray, *, min_iou: float) -> dict[int, int]:
    """Detection -> track of the one-to-one assignment with the largest sum of IoUs, pairs below ``min_iou`` left out.

    Args:
        known: N masks (H, W) bool.
        found: (D, H, W) bool.
    """
    if not len(known) or not len(found):
        return {}
    first = np.stack(known).reshape(len(known), -1).astype(np.float64)
    second = np.asarray(found).reshape(len(found), -1).astype(np.float64)
    overlap = first @ second.T
    union = first.sum(1)[:, None] + second.sum(1) - overlap
    ious = overlap / np.maximum(union, 1)
    ious[ious < min_iou] = 0.0
    rows, columns = linear_sum_assignment(-ious)
    return {int(column): int(row) for row, column in zip(rows, columns, strict=True) if ious[row, column] > 0}
