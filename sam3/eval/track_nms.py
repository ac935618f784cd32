"""Suppression of predicted tracks, or of their boxes in single frames, that repeat a better one.

Tracks of all phrases of one video compete. Source: spec/evaluation.md 3.7.
"""

from collections.abc import Sequence

import numpy as np

from sam3.data.masklets import Masklet
from sam3.eval.masklet_file import PredictedMasklet
from sam3.eval.video_matching import box_overlaps, ratio


def unsuppressed_tracks(tracks: Sequence[PredictedMasklet], iou_threshold: float) -> np.ndarray:
    """(N,) bool: tracks that overlap no better kept track by ``iou_threshold`` or more.

    The overlap of two tracks is that of the frames in which both are present: intersections summed by unions summed.
    """
    boxes, present, order = _arrays(tracks)
    kept = np.ones(len(tracks), dtype=bool)
    for position, best in enumerate(order):
        rest = order[position + 1 :]
        if kept[best] and len(rest):
            both = (present[best] & present[rest]).T
            inter, union = (values[:, 0] * both for values in box_overlaps(boxes[best][None], boxes[rest]))
            kept[rest[ratio(inter.sum(axis=0), union.sum(axis=0)) >= iou_threshold]] = False
    return kept


def unsuppressed_boxes(tracks: Sequence[PredictedMasklet], iou_threshold: float) -> np.ndarray:
    """(F, N) bool: the same in each frame by itself, with the tracks' scores."""
    boxes, present, order = _arrays(tracks)
    kept = np.ones(present.shape, dtype=bool)
    for position, best in enumerate(order):
        rest = order[position + 1 :]
        if len(rest):
            strong = kept[best] & present[best]
            overlap = ratio(*box_overlaps(boxes[best][None], boxes[rest]))[:, 0].T
            kept[rest] &= ~(present[rest] & strong & (overlap >= iou_threshold))
    return kept.T


def _arrays(tracks: Sequence[Masklet]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (N, F, 4), where there are any (N, F), and the tracks from the best score down (N,)."""
    num_frames = len(tracks[0]) if tracks else 0
    boxes = np.array([track.boxes for track in tracks]).reshape(len(tracks), num_frames, 4)
    scores = np.array([track.score for track in tracks])
    return boxes, (boxes > 0).any(axis=2), np.argsort(-scores, kind="stable")
