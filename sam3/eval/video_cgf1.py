"""cgF1 of videos: that of images with whole tracks in the place of masks, one annotator, and every pair counted.

Source: spec/evaluation.md 3.3; the counts and rates are those of :mod:`sam3.eval.cgf1`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sam3.data.saco_video import PairId, VideoGroundTruth
from sam3.eval.cgf1 import Cgf1, Judgement, PairResult, Totals, judgement
from sam3.eval.matching import assign
from sam3.eval.video_pairs import KEY_NAMES, KINDS, Kind, VideoData, VideoTracks

SCORE_THRESHOLD = 0.5  # inclusive

_AT = {"50": 0, "75": 5}  # reported thresholds, beside their mean
_NOBODY = np.zeros(0)


@dataclass(frozen=True)
class VideoCgf1:
    """cgF1 of each kind that was asked for."""

    kinds: dict[Kind, Cgf1] | None  # None: the ground truth does not list its pairs, so there are no rates
    pairs: dict[Kind, dict[PairId, Judgement]]  # sorted, then the pairs that only the list of pairs knows

    def to_dict(self, dataset: str = "video") -> dict[str, float]:
        """Keys ``<dataset>_<bbox|mask>_demo_{cgf1_micro,ilmcc,positive_micro_f1}_{50_95,50,75}``."""
        result = {}
        for kind, found in (self.kinds or {}).items():
            prefix = f"{dataset}_{KEY_NAMES[kind]}_demo_"
            for at, pick in _PICKS.items():
                result[f"{prefix}cgf1_micro_{at}"] = pick(found.cgf1)
                result[f"{prefix}ilmcc_{at}"] = float(found.il_mcc)
                result[f"{prefix}positive_micro_f1_{at}"] = pick(found.positive_micro_f1)
        return result

    def pair_dicts(self) -> dict[PairId, dict[str, float]]:
        """For each pair ``<bbox|mask>_{TP,FP,FN,F1}_{50_95,50,75}``."""
        rows: dict[PairId, dict[str, float]] = {}
        for kind, judged in self.pairs.items():
            for pair, found in judged.items():
                rows.setdefault(pair, {}).update(_pair_dict(found, KEY_NAMES[kind]))
        return rows


@dataclass
class VideoCgf1Totals:
    """Pairs judged so far."""

    truth: VideoGroundTruth
    kinds: Sequence[Kind] = KINDS
    score_threshold: float = SCORE_THRESHOLD
    _judged: dict[Kind, dict[PairId, Judgement]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._judged = {kind: {} for kind in self.kinds}

    def add(self, tracks: VideoTracks) -> None:
        """Judge the pairs of one video that have annotated or predicted tracks, whatever their score."""
        confident = tracks.scores >= self.score_threshold
        for pair, (rows, columns) in tracks.pairs().items():
            objects = [row for row in rows if not tracks.truths[row].is_crowd]
            kept = [column for column in columns if confident[column]]
            for kind in self.kinds:
                ious = assign(tracks.tracklet_iou(kind, objects, kept).T).ious if objects and kept else _NOBODY
                self._judged[kind][pair] = judgement(len(kept), len(objects), ious)

    def result(self) -> VideoCgf1:
        """The rates, with the listed pairs that nobody annotated or predicted as true negatives."""
        if self.truth.pairs is None:
            return VideoCgf1(None, {kind: {} for kind in self.kinds})
        nothing = judgement(0, 0, _NOBODY)
        missing = [pair for pair in self.truth.pairs if pair not in next(iter(self._judged.values()), {})]
        pairs = {kind: judged | dict.fromkeys(missing, nothing) for kind, judged in self._judged.items()}
        return VideoCgf1({kind: _total(judged).result(kind) for kind, judged in pairs.items()}, pairs)


def video_cgf1(
    data: VideoData, kinds: Sequence[Kind] = KINDS, *, score_threshold: float = SCORE_THRESHOLD
) -> VideoCgf1:
    """cgF1 of predictions with a score of at least ``score_threshold``.

    Pairs are those of all predictions, confident or not, of the annotations, and of the list of pairs.
    """
    data.require(kinds)
    totals = VideoCgf1Totals(data.truth, kinds, score_threshold)
    for tracks in data.videos():
        totals.add(tracks)
    return totals.result()


def _total(judged: Mapping[PairId, Judgement]) -> Totals:
    totals = Totals()
    for number, found in enumerate(judged.values(), start=1):
        totals.add(PairResult(number, 0, found, (found.mean_local_f1(),)))
    return totals


def _pair_dict(found: Judgement, kind: str) -> dict[str, float]:
    tp, fp, fn = (np.asarray(found.true_positives()), found.false_positives(), found.false_negatives())
    sizes = 2 * tp + fp + fn
    f1 = np.divide(2 * tp, sizes, out=np.ones(len(tp)), where=sizes > 0)
    names = {"TP": tp, "FP": fp, "FN": fn, "F1": f1}
    return {f"{kind}_{name}_{at}": pick(values) for at, pick in _PICKS.items() for name, values in names.items()}


def _at(index: int):
    return lambda values: float(values[index])


_PICKS = {"50_95": lambda values: float(values.mean()), **{name: _at(index) for name, index in _AT.items()}}
