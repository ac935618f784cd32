"""Pages that stand alone, with everything escaped."""

import numpy as np
import pytest

from sam3.report.html import (
    Markup,
    code,
    details,
    element,
    image,
    image_grid,
    join,
    key_values,
    missing,
    number,
    page,
    paragraph,
    section,
    table,
    tiles,
)
from tests.report.self_contained import Page

EVIL = "<script>alert('x')</script> & \"quoted\" 铁板"


def whole_page() -> str:
    picture = image(np.zeros((4, 6, 3), dtype=np.uint8), EVIL)
    return page(
        EVIL,
        [
            section(EVIL, paragraph(EVIL), missing(EVIL), table([EVIL, "n"], [[EVIL, 1]], caption=EVIL)),
            section("two", key_values({EVIL: EVIL}), tiles({EVIL: EVIL}), details(EVIL, code(EVIL)), None),
            section("three", image_grid([(picture, EVIL)])),
        ],
        summary=EVIL,
        footer=EVIL,
    )


def test_nothing_is_fetched_and_nothing_given_becomes_markup():
    document = whole_page()
    parsed = Page(document)
    assert parsed.references == []
    assert parsed.tags.count("script") == 1  # our own
    assert "".join(parsed.text).count(EVIL) == 16
    assert document.startswith("<!DOCTYPE html>")
    assert 'name="viewport"' in document


def test_a_page_that_fetches_is_seen():
    fetching = '<p style="background:url(http://a/b.png)"></p><img src="c.png"><style>@import "d.css";</style>'
    assert len(Page(fetching).references) == 3


def test_the_menu_leads_to_the_sections():
    document = page("t", [section("Machine and time"), section("数据")])
    assert '<a href="#machine-and-time">' in document
    assert '<section id="machine-and-time">' in document
    assert '<section id="数据">' in document
    assert "<nav>" not in page("t", [section("only one")])


def test_attributes_are_escaped_and_named_as_html_names_them():
    assert element("p", "a<b", class_='x"y', data_sort=1, id=None) == '<p class="x&quot;y" data-sort="1">a&lt;b</p>'
    assert element("circle", cx=1, text_anchor="end") == '<circle cx="1" text-anchor="end"/>'
    assert join([Markup("<b>"), "<i>"]) == "<b>&lt;i&gt;"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (float("inf"), "–"), (1234567, "1,234,567"), (0.12345, "0.123"), ("a", "a")],
)
def test_numbers(value, text):
    assert number(value) == text


def test_tables_sort_numbers_by_value_and_unknown_ones_last():
    text = table(["name", "AP"], [["b", 0.25], ["a", None], ["c", float("nan")]])
    assert 'data-sort="0.25"' in text
    assert text.count('data-sort="-inf"') == 2
    assert text.count('class="number"') == 4  # heading and three cells
    assert "nothing to list" in table(["a"], [])


def test_pictures_keep_their_size_and_travel_inside():
    text = image(np.full((30, 50, 3), 200, dtype=np.uint8), "grey")
    assert 'width="50" height="30"' in text
    assert 'src="data:image/jpeg;base64,' in text
