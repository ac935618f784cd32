import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3.errors import ConfigError
from sam3.train.optim.schedules import (
    ConstantSchedule,
    InverseSquareRootSchedule,
    ScaledSchedule,
    WarmupLinearSchedule,
    value_at,
)


def _shipped(**changes):
    return InverseSquareRootSchedule(
        **{"base_lr": 8e-5, "warmup_steps": 20, "cooldown_steps": 20, "timescale": 20} | changes
    )


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (1, 4e-6), (10, 4e-5), (20, 8e-5), (40, 5.66e-5), (100, 3.58e-5), (1000, 1.13e-5), (2990, 3.27e-6)],
)
def test_values_of_the_released_schedule(step, expected):
    assert _shipped()(step, 3000) == pytest.approx(expected, rel=2e-3)


def test_half_power_after_one_timescale():
    schedule = _shipped(cooldown_steps=0, timescale=50)
    assert schedule(70, 1000) == pytest.approx(8e-5 / math.sqrt(2))


def test_warmup_from_one_moves_in_the_first_step():
    schedule = _shipped(warmup_from=1)
    assert schedule(0, 3000) == pytest.approx(8e-5 / 20)
    assert schedule(19, 3000) == pytest.approx(8e-5)
    assert schedule(500, 3000) == _shipped()(500, 3000)


@settings(max_examples=100, deadline=None)
@given(step=st.integers(0, 60), total=st.integers(0, 50), warmup=st.integers(0, 50), cooldown=st.integers(0, 50))
def test_any_length_of_run_gives_values_between_zero_and_base(step, total, warmup, cooldown):
    """Also runs as short as the warm-up, of no step at all, and steps beyond the end."""
    inverse = _shipped(warmup_steps=warmup, cooldown_steps=cooldown)
    linear = WarmupLinearSchedule(base_lr=8e-5, warmup_steps=warmup)
    for schedule in (inverse, linear):
        assert 0 <= schedule(step, total) <= 8e-5 * (1 + 1e-12)


def test_warmup_linear_schedule():
    schedule = WarmupLinearSchedule(base_lr=1.0, warmup_steps=9, decay_from=0.5, end_factor=0.1)
    assert schedule(0, 100) == pytest.approx(0.1)
    assert schedule(9, 100) == 1.0
    assert schedule(50, 100) == 1.0
    assert schedule(99, 100) == pytest.approx(0.1)
    assert schedule(74, 100) == pytest.approx(1 - 0.9 * 24 / 49)


def test_constant_and_scaled_schedules():
    assert ConstantSchedule(value=0.1)(7, 10) == 0.1
    assert ScaledSchedule(schedule=_shipped(), factor=0.5)(10, 100) == pytest.approx(2e-5)


def test_functions_of_the_fraction_done_serve_too():
    scheduler = pytest.importorskip("fvcore.common.param_scheduler").LinearParamScheduler(1.0, 0.0)
    assert value_at(scheduler, 25, 100) == pytest.approx(0.75)
    assert value_at(scheduler, 0, 0) == 1.0
    assert ScaledSchedule(schedule=scheduler, factor=2.0)(25, 100) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"warmup_steps": -1}, "warmup_steps"), ({"timescale": 0}, "timescale"), ({"base_lr": float("nan")}, "base_lr")],
)
def test_wrong_settings_are_refused(settings, name):
    with pytest.raises(ConfigError, match=name):
        _shipped(**settings)


def test_decay_beyond_the_run_is_refused():
    with pytest.raises(ConfigError, match="decay_from"):
        WarmupLinearSchedule(base_lr=1.0, decay_from=1.5)
