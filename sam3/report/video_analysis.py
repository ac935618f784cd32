"""What the report of a video evaluation shows, worked out from files: errors of every pair, by subset and by phrase."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sam3.data.saco_video import VideoGroundTruth, read_ground_truth
from sam3.eval.hota import ALPHAS
from sam3.eval.masklet_file import PredictedMasklet, read_masklets
from sam3.eval.phota import SCORE_THRESHOLD, challenging_pairs, pair_tallies
from sam3.eval.significance import CountTable, Interval, PairedDifference, bootstrap, compare
from sam3.eval.video_errors import VideoErrors, VideoPairErrors, take_apart
from sam3.eval.video_pairs import Kind, VideoData

CHALLENGING = "challenging pairs"
_NUM = len(ALPHAS)


@dataclass(frozen=True)
class VideoSubset:
    """One prediction file and what it is compared with."""

    name: str
    pred_file: Path
    gt_file: Path
    other_pred_file: Path | None = None  # a second file, to be compared with the first
    frame_folder: Path | None = None  # to show pictures; below it lie the ``file_names`` of the ground truth


@dataclass
class VideoSubsetAnalysis:
    """The errors of one prediction file; pairs that nobody annotated or predicted have none and are left out."""

    subset: VideoSubset
    data: VideoData
    pairs: list[VideoPairErrors]
    other_pairs: list[VideoPairErrors] | None = None

    @property
    def truth(self) -> VideoGroundTruth:
        return self.data.truth

    @cached_property
    def errors(self) -> VideoErrors:
        """Summed over all pairs."""
        return summed(self.pairs)

    @cached_property
    def other_errors(self) -> VideoErrors | None:
        return None if self.other_pairs is None else summed(self.other_pairs)

    @cached_property
    def interval(self) -> Interval:
        """pHOTA with its bootstrap interval."""
        return bootstrap(self._table(self.pairs))

    @cached_property
    def difference(self) -> PairedDifference | None:
        """First file minus second file; positive = the first is better."""
        return None if self.other_pairs is None else compare(self._table(self.other_pairs), self._table(self.pairs))

    def parts(self) -> list["VideoSubsetAnalysis"]:
        """The whole, and the pairs that are tagged as hard to follow if the ground truth has such tags."""
        hard = challenging_pairs(self.truth)
        if not hard:
            return [self]
        chosen = [
            None if pairs is None else [entry for entry in pairs if entry.pair in hard]
            for pairs in (self.pairs, self.other_pairs)
        ]
        name = f"{self.subset.name}: {CHALLENGING}"
        part = VideoSubset(name, self.subset.pred_file, self.subset.gt_file, self.subset.other_pred_file)
        return [self, VideoSubsetAnalysis(part, self.data, *chosen)]

    def worst(self, count: int) -> list[VideoPairErrors]:
        """The pairs with the most wrong frames."""
        wrong = [entry for entry in self.pairs if entry.errors.wrong() > 0]
        return sorted(wrong, key=VideoPairErrors.worst_first)[:count]

    def _table(self, pairs: Iterable[VideoPairErrors]) -> CountTable:
        """HOTA's counts, one row for each video; phrases of one video are never separated."""
        row_of = {video_id: row for row, video_id in enumerate(self.truth.videos)}
        table = np.zeros((len(row_of), 4, _NUM))
        for entry in pairs:
            table[row_of[entry.pair.video_id]] += entry.errors.count_rows()
        return CountTable(table.reshape(len(row_of), -1), _mean_hota)


def _mean_hota(sums: np.ndarray) -> np.ndarray:
    """(draws, 4 * 19) summed tp, fn, fp and association -> (draws,) pHOTA (spec/evaluation.md 3.5)."""
    tp, fn, fp, association = np.moveaxis(sums.reshape(len(sums), 4, _NUM), 1, 0)
    det_a = tp / np.maximum(1.0, tp + fn + fp)
    return np.sqrt(det_a * (association / np.maximum(1.0, tp))).mean(axis=1)


def analyse(
    subset: VideoSubset, kind: Kind = "segm", *, score_threshold: float = SCORE_THRESHOLD
) -> VideoSubsetAnalysis:
    """Take every pair of a prediction file apart, and of the second one if there is one.

    Raises:
        DataError: a file is wrong; the message names file, entry and field.
    """
    truth = read_ground_truth(subset.gt_file)
    data = VideoData(truth, read_masklets(subset.pred_file, truth))
    other = None
    if subset.other_pred_file is not None:
        second = VideoData(truth, read_masklets(subset.other_pred_file, truth))
        other = _pairs_of(second, kind, score_threshold)
    return VideoSubsetAnalysis(subset, data, _pairs_of(data, kind, score_threshold), other)


def _pairs_of(data: VideoData, kind: Kind, score_threshold: float) -> list[VideoPairErrors]:
    data.require([kind])
    return [
        VideoPairErrors(pair, take_apart(tally), tally.pairs[0], tuple(columns))
        for tracks in data.videos()
        for pair, columns, tally in pair_tallies(tracks, kind, score_threshold)
    ]


def summed(pairs: Iterable[VideoPairErrors]) -> VideoErrors:
    """The errors of all pairs."""
    total = VideoErrors()
    for entry in pairs:
        total += entry.errors
    return total


def tracks_of(analysis: VideoSubsetAnalysis, entry: VideoPairErrors) -> tuple[list, list[PredictedMasklet]]:
    """Annotated and predicted masklets of a pair, in the order of :attr:`VideoPairErrors.followed`."""
    video_id, category_id = entry.pair
    truths = [masklet for masklet in analysis.truth.of_video(video_id) if masklet.category_id == category_id]
    of_video = [masklet for masklet in analysis.data.predictions if masklet.video_id == video_id]
    return truths, [of_video[index] for index in entry.predictions]


@dataclass(frozen=True)
class PhraseResult:
    """How one phrase did, over all subsets."""

    phrase: str
    errors: VideoErrors
    gain: float  # what pHOTA over everything would gain if its pairs held no error


def phrases(analyses: Sequence[VideoSubsetAnalysis]) -> list[PhraseResult]:
    """Phrases with errors, the one that costs most first."""
    found: dict[str, VideoErrors] = {}
    everything = VideoErrors()
    for analysis in analyses:
        everything += analysis.errors
        for entry in analysis.pairs:
            own = found.setdefault(analysis.truth.phrase(entry.pair), VideoErrors())
            own += entry.errors
    results = [
        PhraseResult(phrase, own, everything.gain_if_perfect(own))
        for phrase, own in found.items()
        if any(own.number.values())
    ]
    return sorted(results, key=lambda result: (-result.gain, result.phrase))
