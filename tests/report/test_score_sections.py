"""Sections that both kinds of reports show."""

from enum import Enum

import numpy as np
import pytest

from sam3.eval.loss_split import LossSplit
from sam3.eval.significance import Interval, PairedDifference
from sam3.report.html import Markup
from sam3.report.score_sections import (
    MAX_PHRASES,
    comparison_row,
    loss_rows,
    page_title,
    phrase_section,
    score_tiles,
    worst_pairs_section,
)


class Kind(Enum):
    MISS = "miss"
    SPURIOUS = "spurious"


def split(miss: float, spurious: float) -> LossSplit:
    costs = {Kind.MISS: np.full(3, miss), Kind.SPURIOUS: np.full(3, spurious)}
    return LossSplit(score=np.full(3, 1 - miss - spurious), costs=costs, rest=np.zeros(3))


def test_the_title_names_one_set_or_counts_them():
    assert page_title("cgF1", "segm", ["gold"], "subsets") == "cgF1 of masks: gold"
    assert page_title("cgF1", "bbox", ["gold", "silver"], "subsets") == "cgF1 of boxes: 2 subsets"


def test_one_set_has_an_interval_and_several_a_mean():
    one, other = Interval(0.5, 0.4, 0.625, 0.95), Interval(0.25, 0.1, 0.3, 0.95)
    assert score_tiles("pHOTA", [one], "sets") == {"pHOTA × 100": "50.00", "95% interval": "40.00 – 62.50"}
    assert score_tiles("pHOTA", [one, other], "sets") == {"pHOTA × 100, mean of sets": "37.50"}


def test_the_dearest_kind_comes_first():
    rows = loss_rows(split(0.125, 0.25), {Kind.MISS: 4, Kind.SPURIOUS: 2}, {Kind.MISS: "m", Kind.SPURIOUS: "s"})
    assert rows == [("spurious", 2, 25, "s"), ("miss", 4, 12.5, "m")]


def test_points_won_are_those_that_the_other_file_loses_more():
    difference = PairedDifference(0.25, 0.125, 0.5, 0.95, 0.01)
    row = comparison_row("gold", (0.75, 0.5), difference, (split(0.25, 0), split(0.375, 0.125)))
    assert row == ("gold", 75, 50, 25, 12.5, 50, 0.01, 12.5, 12.5)


def test_phrases_that_are_not_shown_are_mentioned():
    assert "The first" not in phrase_section("cgF1", MAX_PHRASES, Markup("")).body
    assert f"The first {MAX_PHRASES} of 61 phrases" in phrase_section("cgF1", MAX_PHRASES + 1, Markup("")).body


@pytest.mark.parametrize(("names", "each"), [(["a"], 4), (["a", "b", "c"], 1), (list("abcdef"), 1)])
def test_sets_share_the_pictures(names, each):
    asked = []

    def pictures(name: str, count: int):
        asked.append((name, count))
        return [(Markup("<img/>"), name)] * count

    body = worst_pairs_section(names, pictures, limit=4, without="no folder", legend="worst first", least_width=9).body
    assert asked == [(name, each) for name in names]
    assert body.count("<img/>") == each * len(names)


def test_without_pictures_the_reason_is_given():
    words = {"limit": 4, "without": "no folder", "legend": "worst first", "least_width": 9}
    assert "no folder" in worst_pairs_section([], lambda name, count: [], **words).body
    assert "no pair holds an error" in worst_pairs_section(["a"], lambda name, count: [], **words).body
