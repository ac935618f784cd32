"""How far scores have moved."""

import pytest

from sam3.eval.drift import drift_between

START = {(1, -1): 0.9, (1, -2): 0.0, (2, -1): 0.1, (2, -2): 0.2}


def test_unchanged_scores_have_no_drift():
    drift = drift_between(START, START)
    assert (drift.value, drift.found_at_start, drift.silent_at_start, drift.pairs) == (0, 0, 0, 4)


def test_what_was_forgotten_weighs_as_much_as_what_became_noisy():
    silent = drift_between(START, dict.fromkeys(START, 0.0))
    assert silent.found_at_start == pytest.approx(0.9)
    assert silent.silent_at_start == pytest.approx(0.1)
    assert silent.value == pytest.approx(0.5)
    assert drift_between(START, dict.fromkeys(START, 1.0)).value == pytest.approx((0.1 + 0.9) / 2)
    assert silent.to_dict() == {
        "drift": silent.value,
        "drift_found_at_start": silent.found_at_start,
        "drift_silent_at_start": silent.silent_at_start,
    }


def test_one_kind_alone_and_pairs_that_one_side_lacks():
    drift = drift_between({(1, -1): 0.2, (9, -1): 0.9}, {(1, -1): 0.4, (8, -1): 0.0})
    assert drift.value == pytest.approx(0.2)
    assert (drift.found_at_start, drift.pairs) == (None, 1)
    assert "drift_found_at_start" not in drift.to_dict()
    assert drift_between({}, START) is None
