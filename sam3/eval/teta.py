"""TETA of videos: are objects localised, followed, and called by the right phrase? The three are judged apart.

Pure functions on arrays and the loop over videos. Legend: F frames (those with an annotated object), G annotated
tracks, P predicted tracks, A = 20 localisation thresholds, K = 10 classification thresholds (the last of the A).
Source: spec/evaluation.md 3.6.
"""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import Literal

import numpy as np

from sam3.errors import DataError
from sam3.eval.hota import associate, count_matches
from sam3.eval.track_nms import unsuppressed_boxes, unsuppressed_tracks
from sam3.eval.video_matching import EPS, alignment, assign_frames
from sam3.eval.video_pairs import KEY_NAMES, Kind, VideoData, VideoTracks, frames_first

ALPHAS = np.arange(0, 0.99, 0.05)
SCORE_THRESHOLD = 0.5  # inclusive
NMS_THRESHOLD = 0.5
OVERLAP = 0.5  # from here on a predicted track belongs to an annotated one

_FIRST_STRICT = 10  # classification looks at thresholds from 0.5 on
_NUM_STRICT = len(ALPHAS) - _FIRST_STRICT

Nms = Literal["none", "track", "frame"]


@dataclass(frozen=True)
class Teta:
    """The ten numbers in percent, five significant digits."""

    teta: float
    loc_a: float
    assoc_a: float
    cls_a: float
    loc_re: float
    loc_pr: float
    assoc_re: float
    assoc_pr: float
    cls_re: float
    cls_pr: float

    def to_dict(self, kind: Kind = "segm", dataset: str = "video") -> dict[str, float]:
        """Keys ``<dataset>_<bbox|mask>_<name>``."""
        names = [item.name for item in fields(self)]
        return {f"{dataset}_{KEY_NAMES[kind]}_{name}": value for name, value in zip(names, astuple(self), strict=True)}


def _localisation() -> np.ndarray:
    return np.zeros(len(ALPHAS))


def _classification() -> np.ndarray:
    return np.zeros(_NUM_STRICT)


@dataclass
class ClassCounts:
    """One phrase, summed over videos."""

    loc_tp: np.ndarray = field(default_factory=_localisation)  # (A,)
    loc_fn: np.ndarray = field(default_factory=_localisation)
    loc_fp: np.ndarray = field(default_factory=_localisation)
    # Means over true positives, times the number of true positives, so that they add up.
    assoc_a: np.ndarray = field(default_factory=_localisation)
    assoc_re: np.ndarray = field(default_factory=_localisation)
    assoc_pr: np.ndarray = field(default_factory=_localisation)
    cls_tp: np.ndarray = field(default_factory=_classification)  # (K,)
    cls_fn: np.ndarray = field(default_factory=_classification)
    cls_fp: np.ndarray = field(default_factory=_classification)

    def rates(self) -> np.ndarray:
        """(10, A) in the order of :class:`Teta`; classification is one number, repeated."""
        loc = _rates(self.loc_tp, self.loc_fn, self.loc_fp)
        matched = np.maximum(1, self.loc_tp)
        assoc = [value / matched for value in (self.assoc_a, self.assoc_re, self.assoc_pr)]
        cls = [np.full(len(ALPHAS), value.mean()) for value in _rates(self.cls_tp, self.cls_fn, self.cls_fp)]
        overall = (loc[0] + assoc[0] + cls[0]) / 3
        return np.array([overall, loc[0], assoc[0], cls[0], *loc[1:], *assoc[1:], *cls[1:]])


@dataclass(frozen=True)
class TetaVideo:
    """What TETA needs of one video, frames without annotated objects left out."""

    similarity: np.ndarray  # (F, G, P) IoU, zero where either is absent
    truth_present: np.ndarray  # (F, G) bool
    prediction_present: np.ndarray  # (F, P) bool
    truth_classes: np.ndarray  # (G,) int
    prediction_classes: np.ndarray  # (P,) int


def teta(
    data: VideoData,
    kind: Kind = "segm",
    *,
    score_threshold: float = SCORE_THRESHOLD,
    exhaustive: bool = True,
    nms: Nms = "none",
    nms_threshold: float = NMS_THRESHOLD,
) -> Teta:
    """TETA of predictions with a score of at least ``score_threshold``.

    Args:
        data: ground truth and predictions.
        kind: boxes or masks.
        score_threshold: inclusive.
        exhaustive: predictions of a phrase count as false where nothing of it is annotated; without it only those
            that overlap annotated objects are judged (the rule of TAO).
        nms: suppress repeated tracks, or repeated boxes frame by frame, before.
        nms_threshold: overlap from which on a track repeats another.
    """
    totals = TetaTotals(data, kind, score_threshold, exhaustive, nms, nms_threshold)
    for tracks in data.videos():
        totals.add(tracks)
    return totals.result()


@dataclass
class TetaTotals:
    """Videos counted so far; arguments as in :func:`teta`."""

    data: VideoData
    kind: Kind = "segm"
    score_threshold: float = SCORE_THRESHOLD
    exhaustive: bool = True
    nms: Nms = "none"
    nms_threshold: float = NMS_THRESHOLD
    counts: dict[int, ClassCounts] = field(init=False)  # phrases that are annotated somewhere, in table order

    def __post_init__(self) -> None:
        self.data.require([self.kind])
        if self.nms not in ("none", "track", "frame"):
            raise DataError(f"nms is {self.nms!r}; expected none, track or frame")
        annotated = {masklet.category_id for masklet in self.data.truth.masklets}
        in_table = [category for category in self.data.truth.categories if category in annotated]
        self.counts = {category: ClassCounts() for category in [*in_table, *sorted(annotated - set(in_table))]}

    def add(self, tracks: VideoTracks) -> None:
        """Count one video."""
        count_video(self._prepare(tracks), self.counts, exhaustive=self.exhaustive)

    def result(self) -> Teta:
        """The rates: means over phrases, then over thresholds; zeros where nothing is annotated."""
        if not self.counts:
            return Teta(*(0.0 for _ in fields(Teta)))
        means = np.mean([counts.rates() for counts in self.counts.values()], axis=0).mean(axis=1)
        return Teta(*(float(f"{100 * value:1.5g}") for value in means))

    def _prepare(self, tracks: VideoTracks) -> TetaVideo:
        kept = np.flatnonzero(tracks.scores >= self.score_threshold)
        predictions = [tracks.predictions[index] for index in kept]
        present = frames_first([track.boxes.any(axis=1) for track in predictions], len(tracks.video))
        if self.nms == "track":
            present = present & unsuppressed_tracks(predictions, self.nms_threshold)
        elif self.nms == "frame" and predictions:
            present = present & unsuppressed_boxes(predictions, self.nms_threshold)
        truth_present = tracks.truth_present("bbox")
        frames = truth_present.any(axis=1)
        similarity = tracks.similarity(self.kind, range(len(tracks.truths)), kept)
        similarity = similarity * (truth_present[:, :, None] & present[:, None])
        return TetaVideo(
            similarity[frames],
            truth_present[frames],
            present[frames],
            np.array([track.category_id for track in tracks.truths], dtype=np.int64),
            np.array([track.category_id for track in predictions], dtype=np.int64),
        )


def count_video(video: TetaVideo, counts: dict[int, ClassCounts], *, exhaustive: bool) -> None:
    """Add one video to ``counts``, whose order is the order in which phrases are judged.

    Phrases without annotations and predictions in the video contribute nothing and are passed over.
    """
    overlapping = video.similarity >= OVERLAP
    owners = _owners(video, overlapping)
    here = set(video.truth_classes.tolist()) | set(video.prediction_classes.tolist())
    false_classes = {category: _classification() for category in counts if category in here}
    for category in false_classes:
        _count_class(video, category, overlapping, owners, counts[category], false_classes, exhaustive=exhaustive)
    for category, number in false_classes.items():
        counts[category].cls_fp += number


def _owners(video: TetaVideo, overlapping: np.ndarray) -> np.ndarray:
    """(F, P) index of the annotated track that a predicted one is given to with all phrases mixed; -1 for none."""
    owners = np.full(video.prediction_present.shape, -1)
    tracks = np.flatnonzero(overlapping.any(axis=(0, 1)))
    similarity, present = video.similarity[:, :, tracks], video.prediction_present[:, tracks]
    scores = alignment(similarity, video.truth_present, present) * similarity
    found = assign_frames(scores, video.truth_present, present)
    close = similarity[found] >= OVERLAP - EPS
    owners[found.frames[close], tracks[found.predictions[close]]] = found.truths[close]
    return owners


def _count_class(
    video: TetaVideo,
    category: int,
    overlapping: np.ndarray,
    owners: np.ndarray,
    counts: ClassCounts,
    false_classes: dict[int, np.ndarray],
    *,
    exhaustive: bool,
) -> None:
    own = video.truth_classes == category
    truth_present = video.truth_present[:, own]
    of_others = (owners >= 0) & ~own[owners]
    candidates = overlapping[:, own].any(axis=1) & ~of_others  # (F, P) tracks that localise an object of this phrase
    called = video.prediction_present & (video.prediction_classes == category)
    if not candidates.any():
        counts.loc_fn += truth_present.sum()
        if exhaustive:
            # Overwrites what earlier phrases added, so the order of phrases matters: kept, to be comparable
            # (spec/evaluation.md 13.11).
            false_classes[category][:] = called.sum()
        return
    if exhaustive:
        false_classes[category] += (candidates | called).sum() - candidates.sum()
    tracks = np.flatnonzero(candidates.any(axis=0))
    similarity, present = video.similarity[:, own][:, :, tracks], video.prediction_present[:, tracks]
    scores = alignment(similarity, truth_present, present) * similarity
    found = assign_frames(scores, truth_present, present, complete=True)
    matched = count_matches(found, similarity, ALPHAS).pairs
    counts.loc_tp += matched.sum(axis=(1, 2))
    counts.loc_fn += truth_present.sum() - matched.sum(axis=(1, 2))
    is_candidate = candidates[found.frames, tracks[found.predictions]]
    reached = similarity[found][:, None] >= ALPHAS - EPS  # (M, A)
    counts.loc_fp += candidates.sum() - reached[is_candidate].sum(axis=0)
    sums = associate(matched, truth_present.sum(axis=0), present.sum(axis=0))
    for total, value in zip((counts.assoc_a, counts.assoc_re, counts.assoc_pr), sums, strict=True):
        total += value
    classes = video.prediction_classes[tracks[found.predictions]]
    for called_class, number in _by_class(classes, reached[:, _FIRST_STRICT:]):
        if called_class == category:
            counts.cls_tp += number
        else:
            counts.cls_fn += number
            if called_class in false_classes:
                false_classes[called_class] += number


def _by_class(classes: np.ndarray, reached: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """For each predicted phrase the number of matches at each threshold, (K,)."""
    for name in np.unique(classes).tolist():
        yield name, reached[classes == name].sum(axis=0)


def _rates(tp: np.ndarray, fn: np.ndarray, fp: np.ndarray) -> Sequence[np.ndarray]:
    """Accuracy, recall and precision."""
    return tuple(tp / np.maximum(1, tp + rest) for rest in (fn + fp, fn, fp))
