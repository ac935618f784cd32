"""Average precision of masklets: COCO AP with whole tracks in the place of boxes.

mAP looks at each phrase by itself, phrase AP pools all (video, phrase) pairs. Pure functions, and the loop over pairs.
Source: spec/evaluation.md 3.4 and 4.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sam3.data.saco_video import VideoGroundTruth
from sam3.eval.video_pairs import KEY_NAMES, KINDS, Kind, VideoData, VideoTracks

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100  # of a pair

_RECALLS = np.linspace(0.0, 1.0, 101)
_AT = {"50": 0, "75": 5}  # reported thresholds


class PairMatches(NamedTuple):
    """The detections of one pair, best first, D of them."""

    scores: np.ndarray  # (D,)
    matched: np.ndarray  # (10, D) bool: is it matched at each threshold?
    ignored: np.ndarray  # (10, D) bool: matched to a crowd, so neither right nor wrong
    num_objects: int  # crowds left out


@dataclass(frozen=True)
class MaskletAp:
    """Numbers in [0, 1]; -1 where there is nothing to find."""

    map: dict[Kind, float]
    phrase_ap: dict[Kind, np.ndarray]  # (10,) one for each IoU threshold

    def to_dict(self, dataset: str = "video") -> dict[str, float]:
        """mAP of each kind, then phrase AP of each kind at ``50_95``, ``50`` and ``75``."""
        result = {f"{dataset}_{KEY_NAMES[kind]}_mAP_50_95": value for kind, value in self.map.items()}
        for kind, values in self.phrase_ap.items():
            prefix = f"{dataset}_{KEY_NAMES[kind]}_phrase_ap_"
            result[f"{prefix}50_95"] = float(values.mean())
            result |= {prefix + name: float(values[index]) for name, index in _AT.items()}
        return result


@dataclass
class MaskletApTotals:
    """Pairs matched so far."""

    truth: VideoGroundTruth
    kinds: Sequence[Kind] = KINDS
    _pairs: dict[Kind, dict[int, list[PairMatches]]] = field(default_factory=dict)  # by phrase

    def __post_init__(self) -> None:
        self._in_order: dict[Kind, list[PairMatches]] = {kind: [] for kind in self.kinds}
        self._pairs = {kind: {} for kind in self.kinds}

    def add(self, tracks: VideoTracks) -> None:
        """Match the pairs of one video."""
        is_crowd = np.array([track.is_crowd for track in tracks.truths], dtype=bool)
        for pair, (rows, columns) in tracks.pairs().items():
            for kind in self.kinds:
                ious = tracks.tracklet_iou(kind, rows, columns).T
                found = match(ious, tracks.scores[columns], is_crowd[rows])
                self._in_order[kind].append(found)
                self._pairs[kind].setdefault(pair.category_id, []).append(found)

    def result(self) -> MaskletAp:
        """The rates. Only phrases with annotations in the table count for mAP."""
        return MaskletAp(
            map={kind: self._mean(kind) for kind in self.kinds},
            phrase_ap={kind: average_precision(self._in_order[kind]) for kind in self.kinds},
        )

    def _mean(self, kind: Kind) -> float:
        values = [average_precision(self._pairs[kind].get(category, ())) for category in self.truth.categories]
        known = [value.mean() for value in values if value[0] > -1]
        return float(np.mean(known)) if known else -1.0


def masklet_ap(data: VideoData, kinds: Sequence[Kind] = KINDS) -> MaskletAp:
    """mAP and phrase AP of all predictions, whatever their score."""
    data.require(kinds)
    totals = MaskletApTotals(data.truth, kinds)
    for tracks in data.videos():
        totals.add(tracks)
    return totals.result()


def match(ious: np.ndarray, scores: np.ndarray, is_crowd: np.ndarray) -> PairMatches:
    """Greedy matching of one pair: from the best score down, each detection takes the best object still free.

    A detection that finds no object may lie on a crowd, of which it then takes nothing away; of equal overlaps the
    later object is taken.

    Args:
        ious: (D, G) of detections and objects.
        scores: (D,).
        is_crowd: (G,) bool.
    """
    order = np.argsort(-scores, kind="stable")[:MAX_DETECTIONS]
    ious, limits = ious[order], np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    matched = np.zeros((len(limits), len(order)), dtype=bool)
    ignored = matched.copy()
    free = np.tile(~is_crowd, (len(limits), 1))
    for detection in np.flatnonzero((ious >= limits[0]).any(axis=1)):
        reached = ious[detection] >= limits[:, None]  # (10, G)
        candidates = reached & free
        found = candidates.any(axis=1)
        taken = _last_best(np.where(candidates, ious[detection], -1.0))
        free[found, taken[found]] = False
        on_crowd = ~found & (reached & is_crowd).any(axis=1)
        matched[:, detection] = found | on_crowd
        ignored[:, detection] = on_crowd
    return PairMatches(scores[order], matched, ignored, int((~is_crowd).sum()))


def average_precision(pairs: Iterable[PairMatches]) -> np.ndarray:
    """AP at each IoU threshold over all pairs, (10,): precision read off at 101 recalls; -1 without objects."""
    pairs = list(pairs)
    num_objects = sum(pair.num_objects for pair in pairs)
    if not num_objects:
        return np.full(len(IOU_THRESHOLDS), -1.0)
    order = np.argsort(-np.concatenate([pair.scores for pair in pairs]), kind="stable")
    matched = np.concatenate([pair.matched for pair in pairs], axis=1)[:, order]
    counts = ~np.concatenate([pair.ignored for pair in pairs], axis=1)[:, order]
    hits, misses = np.cumsum(matched & counts, axis=1), np.cumsum(~matched & counts, axis=1)
    precision = hits / (hits + misses + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.array([_at_recalls(*curve) for curve in zip(hits / num_objects, precision, strict=True)])


def _at_recalls(recall: np.ndarray, precision: np.ndarray) -> float:
    where = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[where].mean())


def _last_best(values: np.ndarray) -> np.ndarray:
    """Index of the largest entry of each row, the last of equal ones."""
    return values.shape[1] - 1 - values[:, ::-1].argmax(axis=1)
