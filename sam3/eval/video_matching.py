"""What the video metrics share: overlaps of tracks frame by frame, tracklet IoU, and assignment in every frame.

Pure functions on arrays. Legend: F frames, G annotated tracks, P predicted tracks. Source: spec/evaluation.md 1.5, 3.2,
3.5; mask IoU is that of pycocotools.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sam3.data.masklets import MaskTrack

EPS = float(np.finfo(np.float64).eps)  # similarities within it reach a threshold; sums below it are nothing

_CLEAR = 1.0 - 1e-6  # a partner is the best beyond rounding if the others stay below this share of it


class Matches(NamedTuple):
    """M assigned pairs of tracks."""

    frames: np.ndarray  # (M,) int
    truths: np.ndarray  # (M,) int, index of the annotated track
    predictions: np.ndarray  # (M,) int, index of the predicted track


def box_overlaps(truths: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersection and union in every frame, each (F, G, P), of xywh boxes (G, F, 4) and (P, F, 4); absent = zeros.

    Computed in float64: with float32 an IoU such as 7/10 falls on either side of its threshold (12.11 of the spec).
    """
    truth, prediction = truths.swapaxes(0, 1)[:, :, None], predictions.swapaxes(0, 1)[:, None]
    low = np.maximum(truth[..., :2], prediction[..., :2])
    high = np.minimum(truth[..., :2] + truth[..., 2:], prediction[..., :2] + prediction[..., 2:])
    sides = (high - low).clip(min=0)
    inter = sides[..., 0] * sides[..., 1]
    union = truth[..., 2] * truth[..., 3] + prediction[..., 2] * prediction[..., 3] - inter
    return inter, union


def ratio(inter: np.ndarray, union: np.ndarray) -> np.ndarray:
    """``inter / union``; 0 where both are 0, so boxes without area overlap nothing."""
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > EPS)


def mask_ious(truths: Sequence[MaskTrack], predictions: Sequence[MaskTrack]) -> np.ndarray:
    """IoU of masks in every frame, (F, G, P); 0 where either is absent or empty."""
    from pycocotools import mask as coco_mask

    num_frames = len(truths[0].areas) if truths else len(predictions[0].areas) if predictions else 0
    ious = np.zeros((num_frames, len(truths), len(predictions)))
    if not ious.size:
        return ious
    truth_masks, prediction_masks = _for_pycocotools(truths), _for_pycocotools(predictions)
    shown = zip(_shown_per_frame(truths), _shown_per_frame(predictions), strict=True)
    for frame, (rows, columns) in enumerate(shown):
        if rows and columns:
            some_truths = [truth_masks[row][frame] for row in rows]
            some_predictions = [prediction_masks[column][frame] for column in columns]
            found = coco_mask.iou(some_predictions, some_truths, [0] * len(rows)).T
            for row, values in zip(rows, found, strict=True):
                ious[frame, row, columns] = values
    return ious


def mask_overlaps(
    ious: np.ndarray, truth_areas: np.ndarray, prediction_areas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Intersection and union in pixels, each (F, G, P), exact: recovered from IoU and areas (G, F) and (P, F).

    inter = iou * (A + B) / (1 + iou) is a whole number, and rounding finds it while areas stay below 2^50 pixels.
    """
    both = (truth_areas.T[:, :, None] + prediction_areas.T[:, None]).astype(np.float64)
    inter = np.rint(ious * both / (1.0 + ious))
    return inter, both - inter


def tracklet_iou(inter: np.ndarray, union: np.ndarray) -> np.ndarray:
    """IoU of whole tracks, (G, P): overlap summed over frames by union summed; two that are empty throughout have 1."""
    inter, union = inter.sum(axis=0), union.sum(axis=0)
    return np.divide(inter, union, out=np.ones_like(inter), where=union > 0)


def alignment(similarity: np.ndarray, truth_present: np.ndarray, prediction_present: np.ndarray) -> np.ndarray:
    """How well whole tracks agree, (G, P) in [0, 1]: the share of the frames of either in which each is the other's.

    Args:
        similarity: (F, G, P), zero where either is absent.
        truth_present: (F, G) bool.
        prediction_present: (F, P) bool.
    """
    rivals = similarity.sum(axis=1, keepdims=True) + similarity.sum(axis=2, keepdims=True) - similarity
    together = ratio(similarity, rivals).sum(axis=0)
    frames = truth_present.sum(axis=0)[:, None] + prediction_present.sum(axis=0)[None]
    return ratio(together, frames - together)


def assign_frames(
    scores: np.ndarray, truth_present: np.ndarray, prediction_present: np.ndarray, *, complete: bool = False
) -> Matches:
    """One-to-one assignment with the largest sum of scores in each frame, in the order of the frames.

    Frames without a conflict need no solver: where every row has one clear best partner and these differ, no
    assignment reaches the sum of the rows' maxima in any other way (columns likewise).

    Args:
        scores: (F, G, P), not negative, zero where either track is absent.
        truth_present: (F, G) bool.
        prediction_present: (F, P) bool.
        complete: pairs with score 0 are wanted too, as the solver chooses them among present tracks; without it
            they may or may not be among the result.
    """
    chosen = np.zeros(scores.shape, dtype=bool)
    if not scores.size:
        return Matches(*np.nonzero(chosen))
    settled = np.zeros(len(scores), dtype=bool)
    for axis in (2, 1):
        best = (scores >= scores.max(axis=axis, keepdims=True) * _CLEAR) & (scores > 0)
        clear = (best.sum(axis=2).max(axis=1) <= 1) & (best.sum(axis=1).max(axis=1) <= 1) & ~settled
        chosen[clear] = best[clear]
        settled |= clear
    possible = np.minimum(truth_present.sum(axis=1), prediction_present.sum(axis=1))
    if complete:
        settled &= chosen.sum(axis=(1, 2)) == possible
    for frame in np.flatnonzero(~settled & (possible > 0)):
        chosen[frame] = _solve(scores[frame], truth_present[frame], prediction_present[frame])
    return Matches(*np.nonzero(chosen))


def _solve(scores: np.ndarray, rows_present: np.ndarray, columns_present: np.ndarray) -> np.ndarray:
    """Assignment of one frame as a (G, P) bool matrix; absent tracks are not even offered to the solver."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = np.flatnonzero(rows_present), np.flatnonzero(columns_present)
    first, second = linear_sum_assignment(-scores[rows[:, None], columns])
    chosen = np.zeros(scores.shape, dtype=bool)
    chosen[rows[first], columns[second]] = True
    return chosen


def _for_pycocotools(tracks: Sequence[MaskTrack]) -> list[list[dict]]:
    return [[{"size": [track.height, track.width], "counts": text} for text in track.counts()] for track in tracks]


def _shown_per_frame(tracks: Sequence[MaskTrack]) -> list[list[int]]:
    """For each frame the tracks whose mask is not empty."""
    shown: list[list[int]] = [[] for _ in tracks[0].areas]
    for index, track in enumerate(tracks):
        for frame in np.flatnonzero(track.areas).tolist():
            shown[frame].append(index)
    return shown
