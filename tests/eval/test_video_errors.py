"""Planted errors of masklets are found and cost their own part alone; the parts add up to what is missing."""

import numpy as np
import pytest

from sam3.eval.hota import ALPHAS, HotaCounts, count_sequence, counts_of, tally_sequence
from sam3.eval.video_errors import PairOutcome, VideoErrorKind, VideoErrors, split_video_loss, take_apart

FRAMES = 12
KINDS = list(VideoErrorKind)


def sequence(truths: list[list], predictions: list[list]):
    """IoU and presence of tracks that stand still: each a list of places, one per frame, ``None`` = absent.

    Boxes are 20 wide and as high, so a shift by d has the IoU (20 - d) / (20 + d).
    """
    first, second = (np.array(tracks, dtype=float).reshape(len(tracks), FRAMES).T for tracks in (truths, predictions))
    shift = np.abs(first[:, :, None] - second[:, None])
    similarity = np.where(shift < 20, (20 - shift) / (20 + shift), 0.0)
    return np.nan_to_num(similarity), ~np.isnan(first), ~np.isnan(second)


A, B = [0] * FRAMES, [100] * FRAMES
HALF = FRAMES // 2
PLANTED = {
    VideoErrorKind.FALSE_ALARM: ([], [A]),
    VideoErrorKind.SILENCE: ([A, B], []),
    VideoErrorKind.MISS: ([A, B], [[None] * 3 + A[3:], B]),
    VideoErrorKind.SPURIOUS: ([A, [None] * 4 + B[4:]], [A, B, [300] * FRAMES]),
    VideoErrorKind.LOCALISATION: ([A, B], [[5] * FRAMES, B]),  # IoU 0.6
    VideoErrorKind.IDENTITY: ([A, B], [A[:HALF] + B[HALF:], B[:HALF] + A[HALF:]]),
}
MORE = [
    ([A, B], [B]),  # a whole object is missed
    ([A], [A[:HALF] + [None] * HALF, [None] * HALF + A[HALF:]]),  # a new identity in the middle
    ([A, B], [[*A[:HALF], *[None] * 2, *B[HALF + 2 :]], [9] * FRAMES, [300] * FRAMES]),
]


def errors_of(sequences) -> VideoErrors:
    total = VideoErrors()
    for truths, predictions in sequences:
        total += take_apart(tally_sequence(*sequence(truths, predictions)))
    return total


def counts_in(sequences) -> HotaCounts:
    return sum((count_sequence(*sequence(*item)) for item in sequences), HotaCounts())


PERFECT = [([A, B], [A, B]), ([A], [A])]


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_error_costs_only_its_own_part(kind: VideoErrorKind):
    split = split_video_loss(errors_of([*PERFECT, PLANTED[kind]]))
    assert split.mean_costs[kind] > 0.01
    for other in KINDS:
        if other is not kind:
            assert abs(split.costs[other]).max() < 1e-12, other
    assert abs(split.rest).max() < 1e-12


def test_the_parts_add_up_to_what_is_missing_of_phota():
    sequences = [*PERFECT, *PLANTED.values(), *MORE]
    errors = errors_of(sequences)
    split = split_video_loss(errors)
    phota = counts_in(sequences).result()
    assert errors.score().mean() == pytest.approx(phota.hota, abs=1e-15)
    for threshold in range(len(ALPHAS)):
        parts = sum(cost[threshold] for cost in split.costs.values())
        assert parts == pytest.approx(1 - split.score[threshold], abs=1e-12)
    assert sum(split.mean_costs.values()) == pytest.approx(1 - phota.hota, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_any_sequence_is_described_exactly_and_put_right_completely(seed: int):
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(1, 9)), int(rng.integers(0, 5)), int(rng.integers(0, 5))
    similarity = rng.random(shape) * (rng.random(shape) < 0.7)
    truth, predicted = rng.random(shape[:2]) < 0.8, rng.random((shape[0], shape[2])) < 0.7
    tally = tally_sequence(similarity, truth, predicted)
    errors, counts = take_apart(tally), counts_of(tally)
    for name in ("tp", "fn", "fp", "ass_a"):
        assert getattr(errors.counts(), name) == pytest.approx(getattr(counts, name), abs=1e-9), name
    right = errors.counts(KINDS)
    assert right.tp == pytest.approx(truth.sum() + 0 * ALPHAS)
    assert right.ass_a == pytest.approx(right.tp)
    assert not right.fn.any()
    assert not right.fp.any()
    assert errors.annotated_frames == truth.sum()
    for kind in KINDS:  # nothing that is put right is worse than an error elsewhere allows
        partly = errors.counts([kind])
        assert (partly.tp >= counts.tp - 1e-9).all()
        assert (partly.ass_a <= partly.tp + 1e-9).all()


def test_errors_are_counted_in_frames():
    number = errors_of(PLANTED.values()).number
    assert number[VideoErrorKind.FALSE_ALARM] == FRAMES
    assert number[VideoErrorKind.SILENCE] == 2 * FRAMES
    assert number[VideoErrorKind.MISS] == 3
    assert number[VideoErrorKind.SPURIOUS] == FRAMES + 4
    assert number[VideoErrorKind.LOCALISATION] == pytest.approx(FRAMES * (ALPHAS > 0.6 + 1e-9).mean())
    assert number[VideoErrorKind.IDENTITY] == 4  # two objects with a second track, two tracks with a second object
    outcomes = errors_of(PLANTED.values()).outcomes
    assert outcomes == {PairOutcome.FOUND: 4, PairOutcome.FALSE_ALARM: 1, PairOutcome.SILENT: 1}


def test_localisation_costs_at_the_thresholds_it_misses():
    cost = split_video_loss(errors_of([*PERFECT, PLANTED[VideoErrorKind.LOCALISATION]])).costs
    cost = cost[VideoErrorKind.LOCALISATION]
    assert abs(cost[ALPHAS < 0.6 + 1e-9]).max() < 1e-12
    assert cost[ALPHAS > 0.6 + 1e-9].min() > 0.01


def test_what_a_perfect_group_would_gain():
    group, rest = errors_of([PLANTED[VideoErrorKind.MISS]]), errors_of(PERFECT)
    everything = errors_of([*PERFECT, PLANTED[VideoErrorKind.MISS]])
    assert everything.gain_if_perfect(group) == pytest.approx(1 - everything.score().mean())
    assert everything.gain_if_perfect(rest) == pytest.approx(0, abs=1e-15)


def test_with_nothing_to_find_nothing_can_be_put_right():
    split = split_video_loss(errors_of([PLANTED[VideoErrorKind.FALSE_ALARM]]))
    assert split.score.mean() == 0
    assert split.rest.mean() == 1
    assert split_video_loss(VideoErrors()).rest.mean() == 1
