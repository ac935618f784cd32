"""pHOTA of videos: HOTA of every (video, phrase) pair as a sequence of its own, combined over all of them.

Source: spec/evaluation.md 3.5.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sam3.data.saco_video import PairId, VideoGroundTruth
from sam3.errors import DataError, listed
from sam3.eval.hota import Hota, HotaCounts, Tally, count_sequence, counts_of, tally_sequence
from sam3.eval.track_nms import unsuppressed_tracks
from sam3.eval.video_pairs import KEY_NAMES, KINDS, Kind, VideoData, VideoTracks

SCORE_THRESHOLD = 0.5  # exclusive, unlike that of cgF1 and TETA
CHALLENGING_TAG = "tracking_challenging_pair"
NMS_THRESHOLD = 0.5


@dataclass(frozen=True)
class KindOfPhota:
    """Boxes or masks."""

    all: Hota
    challenging: Hota | None  # pairs tagged as hard to follow; None: the ground truth has no such tags
    pairs: dict[PairId, Hota]


@dataclass(frozen=True)
class Phota:
    """pHOTA of each kind that was asked for."""

    kinds: dict[Kind, KindOfPhota]

    def to_dict(self, dataset: str = "video", unit: str = "phrase") -> dict[str, float]:
        """Keys ``<dataset>_<bbox|mask>_<all|challenging>_<unit>_<name>``."""
        result = {}
        for kind, found in self.kinds.items():
            for subset, hota in (("all", found.all), ("challenging", found.challenging)):
                if hota is not None:
                    result |= hota.to_dict(f"{dataset}_{KEY_NAMES[kind]}_{subset}_{unit}_")
        return result

    def pair_dicts(self) -> dict[PairId, dict[str, float]]:
        """For each pair ``<bbox|mask>_<name>``, pairs sorted."""
        rows: dict[PairId, dict[str, float]] = {}
        for kind, found in self.kinds.items():
            for pair, hota in found.pairs.items():
                rows.setdefault(pair, {}).update(hota.to_dict(f"{KEY_NAMES[kind]}_"))
        return rows


@dataclass
class PhotaTotals:
    """Sequences counted so far."""

    truth: VideoGroundTruth
    kinds: Sequence[Kind] = KINDS
    score_threshold: float = SCORE_THRESHOLD
    _sums: dict[tuple[Kind, str], HotaCounts] = field(default_factory=dict)
    _pairs: dict[Kind, dict[PairId, Hota]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._challenging = challenging_pairs(self.truth)

    def add(self, tracks: VideoTracks) -> None:
        """Count the pairs of one video."""
        for kind in self.kinds:
            for pair, counts in pair_counts(tracks, kind, self.score_threshold):
                self._pairs.setdefault(kind, {})[pair] = counts.result()
                self._sum(kind, "all", counts)
                if pair in (self._challenging or ()):
                    self._sum(kind, "challenging", counts)

    def result(self) -> Phota:
        """The rates."""
        return Phota({kind: self._kind(kind) for kind in self.kinds})

    def _kind(self, kind: Kind) -> KindOfPhota:
        challenging = self._sums.get((kind, "challenging"), HotaCounts()).result() if self._challenging else None
        everything = self._sums.get((kind, "all"), HotaCounts()).result()
        return KindOfPhota(everything, challenging, self._pairs.get(kind, {}))

    def _sum(self, kind: Kind, subset: str, counts: HotaCounts) -> None:
        self._sums[kind, subset] = self._sums.get((kind, subset), HotaCounts()) + counts


def phota(data: VideoData, kinds: Sequence[Kind] = KINDS, *, score_threshold: float = SCORE_THRESHOLD) -> Phota:
    """pHOTA of predictions with a score **above** ``score_threshold``."""
    data.require(kinds)
    totals = PhotaTotals(data.truth, kinds, score_threshold)
    for tracks in data.videos():
        totals.add(tracks)
    return totals.result()


def pair_counts(tracks: VideoTracks, kind: Kind, score_threshold: float) -> Iterator[tuple[PairId, HotaCounts]]:
    """Counts of each pair that has annotated or confident predicted tracks."""
    for pair, _, tally in pair_tallies(tracks, kind, score_threshold):
        yield pair, counts_of(tally)


def pair_tallies(tracks: VideoTracks, kind: Kind, score_threshold: float) -> Iterator[tuple[PairId, list[int], Tally]]:
    """The confident predicted tracks of each pair that has those or annotated ones, and what is counted of them."""
    truth_present, prediction_present = tracks.truth_present(kind), tracks.prediction_present
    confident = tracks.scores > score_threshold
    for pair, (rows, columns) in tracks.pairs().items():
        kept = [column for column in columns if confident[column]]
        if rows or kept:
            similarity = tracks.similarity(kind, rows, kept)
            yield pair, kept, tally_sequence(similarity, truth_present[:, rows], prediction_present[:, kept])


def challenging_pairs(truth: VideoGroundTruth) -> set[PairId] | None:
    """Pairs tagged as hard to follow; ``None`` unless there are annotations and all of them have tags.

    Raises:
        DataError: some annotations of a pair carry the tag and others do not.
    """
    if not truth.masklets or any(masklet.tags is None for masklet in truth.masklets):
        return None
    tagged: dict[PairId, set[bool]] = {}
    for masklet in truth.masklets:
        pair = PairId(masklet.video_id, masklet.category_id)
        tagged.setdefault(pair, set()).add(CHALLENGING_TAG in masklet.tags)
    if mixed := [tuple(pair) for pair, values in tagged.items() if len(values) > 1]:
        raise DataError(
            f"{truth.source}: annotations: tags: {CHALLENGING_TAG!r} must be on all annotations of a pair or on none; "
            f"(video, category) {listed(mixed)} have it on some"
        )
    return {pair for pair, values in tagged.items() if values == {True}}


def class_agnostic_hota(
    data: VideoData,
    kinds: Sequence[Kind] = KINDS,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    nms_threshold: float = NMS_THRESHOLD,
    keep_suppressed_masks: bool = False,
) -> Phota:
    """HOTA with all phrases of a video in one class, after suppression of repeated tracks (``compute_video_mot_hota``).

    Args:
        data: ground truth and predictions.
        kinds: boxes, masks.
        score_threshold: exclusive.
        nms_threshold: tracks that overlap a better one by at least this are suppressed.
        keep_suppressed_masks: suppress boxes only, as the reference does (defect 9 of the spec).
    """
    data.require(kinds)
    hard_videos = challenging_videos(data.truth)
    sums: dict[Kind, dict[str, HotaCounts]] = {kind: {} for kind in kinds}
    for tracks in data.videos():
        confident = np.flatnonzero(tracks.scores > score_threshold)
        rows = range(len(tracks.truths))
        kept = unsuppressed_tracks([tracks.predictions[index] for index in confident], nms_threshold)
        for kind in kinds:
            present = tracks.prediction_present[:, confident]
            if kind == "bbox" or not keep_suppressed_masks:
                present = present & kept
            similarity = tracks.similarity(kind, rows, confident)
            counts = count_sequence(similarity, tracks.truth_present(kind), present)
            for subset in _subsets(tracks.video.id, hard_videos):
                sums[kind][subset] = sums[kind].get(subset, HotaCounts()) + counts
    return _phota_of(
        {kind: {subset: counts.result() for subset, counts in found.items()} for kind, found in sums.items()}
    )


def class_hota(
    data: VideoData,
    kinds: Sequence[Kind] = KINDS,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    average_over_table: bool = False,
) -> Phota:
    """HOTA of every phrase over all videos, then the plain mean over phrases.

    Args:
        data: ground truth and predictions.
        kinds: boxes, masks.
        score_threshold: exclusive.
        average_over_table: also over phrases that occur nowhere, as the reference does (defect 10 of the spec); their
            zeros drown the others when the table is large.
    """
    data.require(kinds)
    hard_videos = challenging_videos(data.truth)
    sums: dict[tuple[Kind, str], dict[int, HotaCounts]] = {}
    for tracks in data.videos():
        for kind in kinds:
            for pair, counts in pair_counts(tracks, kind, score_threshold):
                for subset in _subsets(pair.video_id, hard_videos):
                    of_class = sums.setdefault((kind, subset), {})
                    of_class[pair.category_id] = of_class.get(pair.category_id, HotaCounts()) + counts
    means: dict[Kind, dict[str, Hota]] = {kind: {} for kind in kinds}
    for (kind, subset), found in sums.items():
        means[kind][subset] = _mean_over_classes(found, data.truth, average_over_table)
    return _phota_of(means)


def challenging_videos(truth: VideoGroundTruth) -> set[int]:
    """Videos with an annotation that is tagged as hard to follow, if all annotations have tags."""
    if any(masklet.tags is None for masklet in truth.masklets):
        return set()
    return {masklet.video_id for masklet in truth.masklets if CHALLENGING_TAG in (masklet.tags or ())}


def _subsets(video_id: int, hard_videos: set[int]) -> tuple[str, ...]:
    return ("all", "challenging") if video_id in hard_videos else ("all",)


def _phota_of(means: dict[Kind, dict[str, Hota]]) -> Phota:
    nothing = HotaCounts().result()
    return Phota(
        {kind: KindOfPhota(found.get("all", nothing), found.get("challenging"), {}) for kind, found in means.items()}
    )


def _mean_over_classes(found: dict[int, HotaCounts], truth: VideoGroundTruth, over_table: bool) -> Hota:
    classes: Iterable[int] = truth.categories if over_table else [name for name in truth.categories if name in found]
    values = [found.get(category, HotaCounts()).result().to_dict() for category in classes]
    if not values:
        return HotaCounts().result()
    return Hota(*(float(np.mean([value[name] for value in values])) for name in values[0]))
