"""(video, phrase) pairs of ground truth and predictions, video by video.

Every pair is a small video of its own with one class (spec/evaluation.md 3.1). Overlaps of tracks are computed when
asked for and dropped with the video, so memory grows with one video.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from sam3.data.masklets import MaskTrack
from sam3.data.saco_video import PairId, TruthMasklet, Video, VideoGroundTruth
from sam3.errors import DataError
from sam3.eval import video_matching
from sam3.eval.masklet_file import PredictedMasklet

Kind = Literal["bbox", "segm"]
KINDS: tuple[Kind, ...] = ("bbox", "segm")
KEY_NAMES = {"bbox": "bbox", "segm": "mask"}  # how result keys call the two kinds

_MAX_SHARED = 1 << 22  # entries of a similarity of all tracks of a video; beyond, pairs are computed one by one


class VideoTracks:
    """All tracks of one video."""

    def __init__(
        self,
        video: Video,
        truths: Sequence[TruthMasklet],
        predictions: Sequence[PredictedMasklet],
        *,
        share: bool = False,
    ) -> None:
        """``share``: compute the masks' IoU of all tracks together; worth it when somebody needs most of it."""
        self.video = video
        self.truths = truths
        self.predictions = predictions
        self._share = share and len(video) * len(truths) * len(predictions) <= _MAX_SHARED

    @cached_property
    def scores(self) -> np.ndarray:
        """(P,) float64."""
        return np.array([prediction.score for prediction in self.predictions])

    @cached_property
    def prediction_present(self) -> np.ndarray:
        """(F, P) bool: as pHOTA defines it, the same for boxes and masks."""
        return frames_first([prediction.present() for prediction in self.predictions], len(self.video))

    def truth_present(self, kind: Kind) -> np.ndarray:
        """(F, G) bool: where the ground truth has an entry of that kind, be it empty."""
        given = [truth.box_given if kind == "bbox" else _masks_of(truth).given() for truth in self.truths]
        return frames_first(given, len(self.video))

    def similarity(self, kind: Kind, rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
        """IoU in every frame, (F, rows, columns), of some annotated with some predicted tracks."""
        if kind == "segm":
            return self._mask_ious(rows, columns)
        return video_matching.ratio(*self._box_overlaps(rows, columns))

    def tracklet_iou(self, kind: Kind, rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
        """IoU of whole tracks, (rows, columns)."""
        if kind == "bbox":
            return video_matching.tracklet_iou(*self._box_overlaps(rows, columns))
        areas = (
            np.array([_masks_of(track).areas for track in tracks]).reshape(len(tracks), len(self.video))
            for tracks in self._picked(rows, columns)
        )
        overlaps = video_matching.mask_overlaps(self._mask_ious(rows, columns), *areas)
        return video_matching.tracklet_iou(*overlaps)

    def pairs(self) -> dict[PairId, tuple[list[int], list[int]]]:
        """Annotated and predicted tracks of each phrase, by their indices, in the order of the phrases' ids."""
        found: dict[int, tuple[list[int], list[int]]] = {}
        for side, tracks in enumerate((self.truths, self.predictions)):
            for index, track in enumerate(tracks):
                found.setdefault(track.category_id, ([], []))[side].append(index)
        return {PairId(self.video.id, category): found[category] for category in sorted(found)}

    def _box_overlaps(self, rows: Sequence[int], columns: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        boxes = (
            np.array([track.boxes for track in tracks]).reshape(len(tracks), len(self.video), 4)
            for tracks in self._picked(rows, columns)
        )
        return video_matching.box_overlaps(*boxes)

    def _picked(self, rows: Sequence[int], columns: Sequence[int]) -> tuple[list[TruthMasklet], list[PredictedMasklet]]:
        return [self.truths[row] for row in rows], [self.predictions[column] for column in columns]

    def _mask_ious(self, rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
        if not len(rows) or not len(columns):
            return np.zeros((len(self.video), len(rows), len(columns)))
        if self._share:
            return self._all_mask_ious[:, np.asarray(rows)[:, None], columns]
        return self._compute_mask_ious(rows, columns)

    @cached_property
    def _all_mask_ious(self) -> np.ndarray:
        return self._compute_mask_ious(range(len(self.truths)), range(len(self.predictions)))

    def _compute_mask_ious(self, rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
        masks = ([_masks_of(track) for track in tracks] for tracks in self._picked(rows, columns))
        return video_matching.mask_ious(*masks)


@dataclass(frozen=True)
class VideoData:
    """Ground truth and predictions together, handed out video by video."""

    truth: VideoGroundTruth
    predictions: Sequence[PredictedMasklet]

    def require(self, kinds: Sequence[Kind]) -> None:
        """Masks must be there if they are to be judged.

        Raises:
            DataError: a masklet without ``segmentations``; or an unknown kind.
        """
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise DataError(f"iou_types has {unknown[0]!r}; expected some of {', '.join(KINDS)}")
        if "segm" in kinds:
            for name, masklets in ((self.truth.source, self.truth.masklets), ("predictions", self.predictions)):
                for index, masklet in enumerate(masklets):
                    if masklet.masks is None:
                        raise DataError(f"{name}: masklet {index} has no segmentations, which mask metrics need")

    def videos(self, *, share: bool = False) -> Iterator[VideoTracks]:
        """The videos in the order of their ids."""
        by_video: dict[int, list[PredictedMasklet]] = {}
        for prediction in self.predictions:
            by_video.setdefault(prediction.video_id, []).append(prediction)
        for video_id in sorted(self.truth.videos):
            truths, predictions = self.truth.of_video(video_id), by_video.pop(video_id, [])
            yield VideoTracks(self.truth.videos[video_id], truths, predictions, share=share)


def _masks_of(track: TruthMasklet | PredictedMasklet) -> MaskTrack:
    assert track.masks is not None, "VideoData.require() has looked"
    return track.masks


def frames_first(present: Sequence[np.ndarray], num_frames: int) -> np.ndarray:
    """(F, N) bool from one (F,) bool for each of N tracks."""
    return np.array(present, dtype=bool).reshape(len(present), num_frames).T
