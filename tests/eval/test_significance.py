import numpy as np
import pytest

from sam3.eval.cgf1 import Pair, evaluate
from sam3.eval.error_analysis import take_apart
from sam3.eval.significance import CountTable, bootstrap, compare, count_table


def pairs_with(accuracy: float, seed: int, pictures: int = 120) -> list[Pair]:
    """Two phrases a picture, one there and one absent; each is answered well with probability ``accuracy``."""
    rng = np.random.default_rng(seed)
    box, nothing = np.array([[0.0, 0, 10, 10]]), np.zeros((0, 4))
    pairs = []
    for picture in range(pictures):
        good = rng.uniform(size=2) < accuracy
        found = box if good[0] else nothing
        fired = nothing if good[1] else box
        pairs += [
            Pair(2 * picture, found, np.ones(len(found)), [box]),
            Pair(2 * picture + 1, fired, np.ones(len(fired)), [nothing]),
        ]
    return pairs


def table_of(pairs: list[Pair]) -> CountTable:
    picture_of = {pair.pair_id: pair.pair_id // 2 for pair in pairs}
    return count_table([take_apart(pair) for pair in pairs], picture_of, len(pairs) // 2)


def test_the_table_gives_the_score_of_the_metric():
    pairs = pairs_with(0.8, seed=1)
    assert table_of(pairs).score() == pytest.approx(evaluate(pairs, "bbox").cgf1.mean(), abs=1e-12)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truth = table_of(pairs_with(0.85, seed=99, pictures=20_000)).score()
    covered = 0
    for seed in range(60):
        interval = bootstrap(table_of(pairs_with(0.85, seed=seed)), draws=300, level=0.9)
        assert interval.low <= interval.score <= interval.high
        covered += interval.low <= truth <= interval.high
    assert 46 <= covered <= 60  # 54 expected


def test_intervals_shrink_with_the_number_of_pictures():
    small, large = (bootstrap(table_of(pairs_with(0.8, 3, pictures=n)), draws=400) for n in (50, 800))
    assert 2.5 < (small.high - small.low) / (large.high - large.low) < 6.5  # 4 expected


def test_equal_files_do_not_differ_and_better_ones_do():
    first = table_of(pairs_with(0.7, seed=1))
    same = compare(first, first, draws=200)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    better = compare(first, table_of(pairs_with(0.95, seed=2)), draws=500)
    assert better.difference > 0.2
    assert better.low > 0
    assert better.p_value < 0.01
    worse = compare(table_of(pairs_with(0.95, seed=2)), first, draws=500)
    assert worse.difference == -better.difference


def test_chance_is_rarely_called_a_difference():
    values = [
        compare(table_of(pairs_with(0.8, 2 * s, 60)), table_of(pairs_with(0.8, 2 * s + 1, 60)), draws=200).p_value
        for s in range(40)
    ]
    assert sum(value < 0.05 for value in values) <= 7  # 2 expected


def test_tables_of_different_pictures_are_refused():
    with pytest.raises(ValueError, match="60 and 50 pictures"):
        compare(table_of(pairs_with(0.8, 1, 60)), table_of(pairs_with(0.8, 1, 50)))
