"""Curves, bars, heat maps."""

import json
import re
from html import unescape

import pytest

from sam3.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    bar_chart,
    charts,
    heat_map,
    line_chart,
    nice_ticks,
    short,
)
from tests.report.self_contained import Page


def paths(chart: str) -> list[list[tuple[str, float, float]]]:
    """Steps of every curve: (M or L, x, y)."""
    return [
        [(kind, float(x), float(y)) for kind, x, y in re.findall(r"([ML])([\d.]+) ([\d.]+)", path)]
        for path in re.findall(r' d="([^"]*)"', chart)
    ]


def hover_data(chart: str) -> dict:
    return json.loads(unescape(re.search(r'data-series="([^"]*)"', chart)[1]))


def test_a_curve_fills_its_frame():
    chart = line_chart("loss", {"training": [(1, 0.0), (2, 5.0), (3, 10.0)]})
    (curve,) = paths(chart)
    assert curve == [
        ("M", LEFT, HEIGHT - BOTTOM),
        ("L", (LEFT + WIDTH - RIGHT) / 2, pytest.approx((TOP + HEIGHT - BOTTOM) / 2)),
        ("L", WIDTH - RIGHT, TOP),
    ]
    assert hover_data(chart)["values"] == [["0", "5", "10"]]
    assert Page(chart).references == []
    assert 'aria-label="loss over epoch: training ends at 10"' in chart


def test_gaps_and_curves_of_different_lengths():
    chart = line_chart(
        "AP", {"a": [(1, 0.1), (2, None), (3, float("nan")), (4, 0.4)], "b": [(4, 0.2)], "none": [(1, None)]}
    )
    first, second = paths(chart)
    assert [kind for kind, _, _ in first] == ["M", "M"]  # no line over the gap
    assert len(second) == 1
    assert hover_data(chart)["values"] == [["0.1", None, None, "0.4"], [None, None, None, "0.2"]]
    assert "none" not in chart


def test_equal_ratios_are_equally_long_on_a_logarithmic_axis():
    (curve,) = paths(line_chart("lr", {"all": [(0, 1e-5), (1, 1e-4), (2, 1e-3), (3, 0.0)]}, log=True))
    ys = [y for _, _, y in curve]
    assert len(ys) == 3  # zero has no logarithm
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.11)


def test_nothing_to_draw():
    assert line_chart("empty", {"a": []}) is None
    assert line_chart("unknown", {"a": [(1, None)]}) is None
    assert "figure" not in charts(None)


@pytest.mark.parametrize("value", [0.0, 5.0, -2.0])
@pytest.mark.parametrize("log", [False, True])
def test_a_single_point_or_a_constant_can_be_drawn(value, log):
    for points in ([(1, value)], [(1, value), (2, value)]):
        chart = line_chart("one", {"a": points}, log=log)
        assert (chart is None) == (log and value <= 0)
        for curve in paths(chart or ""):
            assert all(TOP <= y <= HEIGHT - BOTTOM for _, _, y in curve)


def test_many_points_are_thinned_to_the_ends():
    points = [(step, float(step)) for step in range(10_000)]
    (curve,) = paths(line_chart("long", {"a": points}))
    assert len(curve) <= MAX_POINTS + 1
    assert curve[0][1] == LEFT
    assert curve[-1][1] == WIDTH - RIGHT


def test_ticks_are_round_and_enclose_the_values():
    assert nice_ticks(0.0, 1.0) == [0, 0.25, 0.5, 0.75, 1.0]
    assert nice_ticks(13, 88) == [0, 20, 40, 60, 80, 100]
    assert nice_ticks(-0.003, 0.004)[0] <= -0.003
    assert nice_ticks(7, 7) == [0, 5, 10, 15]
    assert nice_ticks(0, 0) == [0, 0.25, 0.5, 0.75, 1.0]
    assert [short(v) for v in (0, 0.25, 1500, 2e-5, 3e7, 1e-10)] == ["0", "0.25", "1500", "2e-5", "3e7", "1e-10"]


def test_bars_are_shares_of_the_longest():
    text = bar_chart("objects", {"a<b": 5, "c": 20, "unknown": None}, digits=0)
    assert re.findall(r'width="([\d.]+%)"', text) == ["25.00%", "100.00%", "0.00%"]
    assert "a&lt;b" in text
    assert re.findall(r'width="([\d.]+%)"', bar_chart("AP", {"a": 0.5}, high=1.0)) == ["50.00%"]
    assert "0.00%" in bar_chart("nothing", {"a": 0})


def test_heat_map_colours_by_share_and_writes_values():
    text = heat_map(["red", "blue"], ["red", "none"], [[8, 2], [0, None]], shares=[[0.8, 0.2], [0, None]], digits=0)
    assert re.findall(r"var\(--heat\),([\d.]+)", text) == ["0.80", "0.20", "0.00"]
    assert text.count('class="strong"') == 1
    assert Page(text).text == ["red", "none", "red", "8", "2", "blue", "0", "–"]
