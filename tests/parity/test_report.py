import math

from tests.parity.report import Row, print_table, rows_or_miss


def test_a_row_is_ok_up_to_its_limit_and_never_with_nan():
    assert Row("a", 1e-5, 1e-5).ok
    assert not Row("a", 1.1e-5, 1e-5).ok
    assert not Row("a", math.nan, 1.0).ok
    assert not Row("a", math.inf, 1.0).ok


def test_the_table_counts_what_is_within(capsys):
    assert not print_table([Row("boxes", 0.0, 0.1), Row("a longer name", 0.5, 0.1)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["quantity", "max", "error", "limit", "ok"]
    assert [line.split()[-1] for line in lines[1:3]] == ["yes", "NO"]
    assert lines[-1] == "1 / 2 within limits"
    assert print_table([])


def test_what_cannot_be_compared_is_a_miss_with_its_reason():
    rows = [Row("a", 0.0, 0.1)]
    assert rows_or_miss("a", lambda: iter(rows)) == rows
    [row] = rows_or_miss("a", lambda: {}["boxes"])
    assert row.quantity == "a: cannot be compared (KeyError: 'boxes')"
    assert not row.ok
