"""Where pHOTA was lost: kinds of errors, and what each of them costs.

Pairs that ask for an absent phrase can only raise a *false alarm*; pairs whose phrase is there can stay *silent*, and
otherwise detections are *missed* or *spurious*, badly *localised*, or carry the wrong *identity*. HOTA mixes them: a
missed frame lowers the association of its track, too. So every set of kinds is put right on the counts that HOTA is
made of (frames in which an annotated and a predicted track are matched, frames of either), HOTA is formed anew, and a
kind costs what :mod:`sam3.eval.loss_split` says: the costs add up to 1 - pHOTA exactly.

How each kind is put right, for one (video, phrase) pair:

- false alarm: without the predictions of a phrase that is not there.
- silence: every annotated frame of a phrase that was not answered is found, each object by one track.
- localisation: what is matched from IoU 0.05 on counts at every threshold.
- miss: frames of an object without a match are found by the track that follows this object most, or by a new one.
- spurious: without predicted frames that are matched to nothing.
- identity: all that is matched to one object is one track, and that track follows nothing else; its unmatched frames
  are those of the tracks that followed this object most.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from sam3.data.saco_video import PairId
from sam3.eval.hota import ALPHAS, HotaCounts, Tally
from sam3.eval.loss_split import LossSplit, split_by_kind

_NUM = len(ALPHAS)


class VideoErrorKind(Enum):
    """What can go wrong; the first two are decided for a (video, phrase) pair as a whole."""

    FALSE_ALARM = "false alarm"
    SILENCE = "silence"
    MISS = "miss"
    SPURIOUS = "spurious"
    LOCALISATION = "localisation"
    IDENTITY = "identity"


K = VideoErrorKind
_WITHIN = (K.MISS, K.SPURIOUS, K.LOCALISATION, K.IDENTITY)  # one bit each of the index of a world
_NUM_WORLDS = 1 << len(_WITHIN)


class PairOutcome(Enum):
    """What happened to a pair as a whole: there are annotated frames (or not), predicted ones (or not)."""

    FOUND = "found"
    FALSE_ALARM = "false alarm"
    SILENT = "silent"


def _zeros() -> np.ndarray:
    return np.zeros((_NUM_WORLDS, 4, _NUM))


@dataclass
class VideoErrors:
    """Errors of one pair, or summed over pairs; the score of any set of corrections follows from them."""

    # HOTA's tp, fn, fp and summed association of the pairs that were found, for each set of corrections within them.
    worlds: np.ndarray = field(default_factory=_zeros)  # (16, 4, 19)
    silent_frames: int = 0  # annotated, of pairs without predictions
    alarm_frames: int = 0  # predicted, of pairs without annotations
    misses: int = 0  # frames of objects
    spurious: int = 0  # frames of predicted tracks
    poor: float = 0.0  # matched frames below the IoU threshold, mean over them
    identities: int = 0  # further tracks on an object, and further objects on a track
    outcomes: dict[PairOutcome, int] = field(default_factory=lambda: dict.fromkeys(PairOutcome, 0))

    def __iadd__(self, other: "VideoErrors") -> "VideoErrors":
        self.worlds = self.worlds + other.worlds
        for name in ("silent_frames", "alarm_frames", "misses", "spurious", "poor", "identities"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.outcomes = {name: count + other.outcomes[name] for name, count in self.outcomes.items()}
        return self

    @property
    def number(self) -> dict[K, float]:
        """How often each kind occurs: frames of tracks, but for identities."""
        return {
            K.FALSE_ALARM: self.alarm_frames,
            K.SILENCE: self.silent_frames,
            K.MISS: self.misses,
            K.SPURIOUS: self.spurious,
            K.LOCALISATION: self.poor,
            K.IDENTITY: self.identities,
        }

    @property
    def annotated_frames(self) -> float:
        """Frames of annotated tracks."""
        tp, fn, _, _ = self.worlds[0]
        return float(tp[0] + fn[0]) + self.silent_frames

    def counts(self, corrected: Iterable[K] = ()) -> HotaCounts:
        """HOTA's counts if all errors of the ``corrected`` kinds had not been made."""
        right = set(corrected)
        tp, fn, fp, association = self.worlds[_world(right)]
        silent, alarms = float(self.silent_frames), 0.0 if K.FALSE_ALARM in right else float(self.alarm_frames)
        found = silent if K.SILENCE in right else 0.0
        return HotaCounts(tp=tp + found, fn=fn + silent - found, fp=fp + alarms, ass_a=association + found)

    def score(self, corrected: Iterable[K] = ()) -> np.ndarray:
        """(19,) HOTA per threshold."""
        return self.counts(corrected).hota()

    def count_rows(self) -> np.ndarray:
        """tp, fn, fp and summed association as they are, (4, 19)."""
        counts = self.counts()
        return np.stack([counts.tp, counts.fn, counts.fp, counts.ass_a])

    def wrong(self) -> float:
        """Detections that are wrong and association that is missing, in frames, mean over the thresholds."""
        counts = self.counts()
        return float((counts.fn + counts.fp + counts.tp - counts.ass_a).mean())

    def gain_if_perfect(self, group: "VideoErrors") -> float:
        """How much the score would rise if the pairs of ``group``, a part of these, held no error."""
        own, perfect = group.counts(), group.counts(tuple(K))
        all_counts = self.counts()
        rest = HotaCounts(*(getattr(all_counts, name) - getattr(own, name) for name in ("tp", "fn", "fp", "ass_a")))
        return float(((rest + perfect).hota() - all_counts.hota()).mean())


def split_video_loss(errors: VideoErrors) -> LossSplit:
    """What each kind of error costs; see the module's description."""
    return split_by_kind(VideoErrorKind, errors.score)


@dataclass(frozen=True)
class VideoPairErrors:
    """One (video, phrase) pair, taken apart."""

    pair: PairId
    errors: VideoErrors
    followed: np.ndarray  # (G, P) frames in which tracks are matched, from the lowest threshold on
    predictions: tuple[int, ...]  # which of the video's predicted tracks the P are

    def worst_first(self) -> tuple[float, PairId]:
        """Sorts pairs: the most wrong frames first."""
        return -self.errors.wrong(), self.pair


def take_apart(tally: Tally) -> VideoErrors:
    """The errors of one pair from what HOTA counts of it."""
    truths, predictions = int(tally.truth_frames.sum()), int(tally.prediction_frames.sum())
    if not truths or not predictions:
        outcome = PairOutcome.SILENT if truths else PairOutcome.FALSE_ALARM
        errors = VideoErrors(silent_frames=truths, alarm_frames=predictions)
        errors.outcomes[outcome] += bool(truths or predictions)
        return errors
    tracks = _Tracks.of(tally)
    errors = VideoErrors(
        worlds=np.stack([tracks.world({kind for kind in _WITHIN if index & _bit(kind)}) for index in _all_worlds()]),
        misses=int(tracks.missed.sum()),
        spurious=int(tracks.unmatched.sum()),
        poor=float((tracks.touching.sum() - tally.pairs.sum(axis=(1, 2))).mean()),
        identities=sum(int((np.count_nonzero(tracks.touching, axis=axis) - 1).clip(min=0).sum()) for axis in (0, 1)),
    )
    errors.outcomes[PairOutcome.FOUND] += 1
    return errors


def _bit(kind: K) -> int:
    return 1 << _WITHIN.index(kind)


def _world(corrected: set[K]) -> int:
    return sum(_bit(kind) for kind in _WITHIN if kind in corrected)


def _all_worlds() -> range:
    return range(_NUM_WORLDS)


@dataclass(frozen=True)
class _Tracks:
    """G annotated and P predicted tracks of a pair that has both."""

    pairs: np.ndarray  # (A, G, P) frames in which two tracks are matched, per threshold
    truth_frames: np.ndarray  # (G,)
    touching: np.ndarray  # (G, P) frames in which they are matched at the lowest threshold
    missed: np.ndarray  # (G,) frames without a match
    unmatched: np.ndarray  # (P,) frames without a match

    @classmethod
    def of(cls, tally: Tally) -> "_Tracks":
        touching = tally.pairs[0]
        return cls(
            pairs=tally.pairs,
            truth_frames=tally.truth_frames,
            touching=touching,
            missed=tally.truth_frames - touching.sum(axis=1),
            unmatched=tally.prediction_frames - touching.sum(axis=0),
        )

    def world(self, right: set[K]) -> np.ndarray:
        """HOTA's tp, fn, fp and summed association, (4, A), if no error of these kinds had been made."""
        matched = np.broadcast_to(self.touching, self.pairs.shape) if K.LOCALISATION in right else self.pairs
        filled = self.missed * (K.MISS in right)
        unmatched = self.unmatched * (K.SPURIOUS not in right)
        associate = self._one_track_each if K.IDENTITY in right else self._tracks_as_predicted
        association = associate(matched, filled, unmatched)
        tp = matched.sum(axis=(1, 2)) + filled.sum()
        predicted = self.touching.sum() + unmatched.sum() + filled.sum()
        return np.stack([tp, self.truth_frames.sum() - tp, predicted - tp, association]).astype(np.float64)

    def _tracks_as_predicted(self, matched: np.ndarray, filled: np.ndarray, unmatched: np.ndarray) -> np.ndarray:
        """(A,) association over matches; frames that are filled in join the track that follows their object most."""
        followed = self.touching.any(axis=1)
        joined = np.zeros_like(self.touching)
        joined[followed, self.touching[followed].argmax(axis=1)] = filled[followed]
        lengths = self.touching.sum(axis=0) + unmatched + joined.sum(axis=0)
        new_tracks = filled[~followed].sum()  # each follows its object alone and throughout
        return _association(matched + joined, self.truth_frames[:, None], lengths[None]) + new_tracks

    def _one_track_each(self, matched: np.ndarray, filled: np.ndarray, unmatched: np.ndarray) -> np.ndarray:
        """(A,) association over matches if each object had one track of its own."""
        follows = self.touching.any(axis=0)
        own = np.bincount(
            self.touching[:, follows].argmax(axis=0), weights=unmatched[follows], minlength=len(self.truth_frames)
        )
        lengths = self.touching.sum(axis=1) + own + filled
        return _association((matched.sum(axis=2) + filled)[..., None], self.truth_frames[:, None], lengths[:, None])


def _association(matched: np.ndarray, truth_frames: np.ndarray, prediction_frames: np.ndarray) -> np.ndarray:
    """(A,) sum over matched frames of the share of the frames of either track in which the two are matched.

    Args:
        matched: (A, G, P) frames.
        truth_frames: broadcasts to (G, P).
        prediction_frames: the same.
    """
    return (matched * (matched / np.maximum(1, truth_frames + prediction_frames - matched))).sum(axis=(1, 2))
