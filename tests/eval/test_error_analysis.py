"""Planted errors are found, and cost what they should."""

import numpy as np
import pytest

from sam3.eval.cgf1 import Outcome, Pair, evaluate
from sam3.eval.error_analysis import ErrorCounts, ErrorKind, gain_if_perfect, split_loss, take_apart

BOX = np.array([10.0, 10.0, 20.0, 20.0])
KINDS = list(ErrorKind)


def boxes(*places: float) -> np.ndarray:
    """Boxes 20 wide whose left edges are at ``places``."""
    return np.array([[x, 10.0, 20.0, 20.0] for x in places]).reshape(-1, 4)


def pair(number: int, predicted: np.ndarray, objects: np.ndarray) -> Pair:
    return Pair(number, predicted, np.ones(len(predicted)), [objects])


def perfect_pairs(count: int = 10) -> list[Pair]:
    """Half of the phrases are there with two objects, half are absent."""
    two = boxes(10, 100)
    return [pair(i, two, two) if i % 2 else pair(i, boxes(), boxes()) for i in range(count)]


PLANTED = {
    ErrorKind.FALSE_ALARM: pair(100, boxes(10), boxes()),
    ErrorKind.SILENCE: pair(100, boxes(), boxes(10, 100)),
    ErrorKind.LOCALISATION: pair(100, boxes(15, 100), boxes(10, 100)),  # IoU 0.6
    ErrorKind.MISS: pair(100, boxes(100), boxes(10, 100)),
    ErrorKind.DUPLICATE: pair(100, boxes(10, 12, 100), boxes(10, 100)),
    ErrorKind.SPURIOUS: pair(100, boxes(10, 100, 200), boxes(10, 100)),
}


def counted(pairs: list[Pair]) -> ErrorCounts:
    counts = ErrorCounts()
    for item in pairs:
        counts.add(take_apart(item))
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_error_costs_only_its_own_part(kind: ErrorKind):
    split = split_loss(counted([*perfect_pairs(), PLANTED[kind]]))
    assert split.mean_costs[kind] > 0.001
    for other in KINDS:
        if other is not kind:
            assert abs(split.mean_costs[other]) < 1e-12, other


def test_the_parts_add_up_to_what_is_missing():
    pairs = [*perfect_pairs(6), *PLANTED.values()]
    split = split_loss(counted(pairs))
    total = sum(split.mean_costs.values()) + split.rest.mean()
    assert total == pytest.approx(1 - evaluate(pairs, "bbox").cgf1.mean(), abs=1e-12)
    assert abs(split.rest).max() < 2e-4  # the epsilons of the definition
    for threshold in range(10):
        parts = sum(cost[threshold] for cost in split.costs.values()) + split.rest[threshold]
        assert parts == pytest.approx(1 - split.score[threshold], abs=1e-12)


def test_poor_localisation_costs_at_the_thresholds_it_misses():
    split = split_loss(counted([*perfect_pairs(), PLANTED[ErrorKind.LOCALISATION]]))
    cost = split.costs[ErrorKind.LOCALISATION]
    assert abs(cost[:3]).max() < 1e-12  # 0.5, 0.55, 0.6
    assert cost[3:].min() > 0.01


def test_without_absent_phrases_everything_is_the_definitions_own():
    split = split_loss(counted([PLANTED[ErrorKind.MISS], PLANTED[ErrorKind.SPURIOUS]]))
    assert all(abs(cost) < 1e-12 for cost in split.mean_costs.values())
    assert split.rest.mean() == pytest.approx(1)


def test_corrections_never_leave_the_counts_of_cgf1():
    pairs = [*perfect_pairs(6), *PLANTED.values()]
    counts, result = counted(pairs), evaluate(pairs, "bbox")
    totals = counts.totals()
    assert np.array_equal(totals.true_positives, result.totals.true_positives)
    assert np.array_equal(totals.positive_false_positives, result.totals.positive_false_positives)
    assert np.array_equal(totals.false_negatives, result.totals.false_negatives)
    assert totals.outcomes == result.totals.outcomes


def test_random_pairs_are_counted_as_cgf1_counts_them():
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(60):
        objects = boxes(*rng.uniform(0, 100, rng.integers(0, 4)))
        predicted = boxes(*rng.uniform(0, 100, rng.integers(0, 5)))
        others = boxes(*rng.uniform(0, 100, rng.integers(0, 4)))
        pairs.append(Pair(number, predicted, rng.uniform(0.3, 1, len(predicted)), [objects, others]))
    counts = counted(pairs)
    assert counts.score() == pytest.approx(evaluate(pairs, "bbox").cgf1, abs=1e-12)
    split = split_loss(counts)
    assert sum(split.mean_costs.values()) + split.rest.mean() == pytest.approx(1 - counts.score().mean(), abs=1e-12)


def test_predictions_are_told_apart():
    errors = take_apart(pair(1, boxes(10, 12, 300), boxes(10, 100)))
    assert (errors.outcome, errors.duplicates, errors.spurious, errors.misses) == (Outcome.TP, 1, 1, 1)
    far = take_apart(pair(1, boxes(300), boxes(10)))
    assert (len(far.ious), far.spurious, far.misses) == (0, 1, 1)
    assert take_apart(pair(1, boxes(), boxes(10))).misses == 0
    assert far.worst_first() < errors.worst_first() or errors.worst_first() < far.worst_first()


def test_gain_of_a_group():
    good, bad = counted(perfect_pairs(6)), counted(list(PLANTED.values()))
    gain = gain_if_perfect(good + bad, bad)
    perfect = good + bad
    assert gain == pytest.approx((1 - split_loss(perfect).rest.mean()) - perfect.score().mean(), abs=1e-9)
    assert gain_if_perfect(good + bad, good) == pytest.approx(0, abs=1e-12)
    assert (good + bad - bad).number == good.number
