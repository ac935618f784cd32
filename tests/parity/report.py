"""The table every parity program prints: one row per compared quantity, judged against a limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One compared quantity: the largest error found and the largest error allowed.

    The unit of `error` (absolute, relative, a count of unequal entries) is the program's choice; it is the unit of
    `limit` too. An error that is not a number is a miss.
    """

    quantity: str
    error: float
    limit: float

    @property
    def ok(self) -> bool:
        return not math.isnan(self.error) and self.error <= self.limit


def difference(found: Any, expected: Any) -> float:
    """Largest absolute difference of numbers in lists of one shape; infinite where the shapes or ``None`` differ."""
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        if len(found) != len(expected):
            return math.inf
        return max((difference(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)
    if isinstance(found, int | float) and isinstance(expected, int | float):
        return abs(found - expected)
    return 0.0 if found is None and expected is None else math.inf


def rows_or_miss(fixture: str, compare: Callable[[], Iterable[Row]]) -> list[Row]:
    """The rows of one fixture. One that cannot be compared is a miss, and the others still get their turn."""
    try:
        return list(compare())
    except Exception as error:  # whatever is wrong with a fixture of an unforeseen form
        return [Row(f"{fixture}: cannot be compared ({type(error).__name__}: {error})", math.nan, 0.0)]


def print_table(rows: Sequence[Row]) -> bool:
    """Prints the rows as an aligned table and says whether every row is within its limit."""
    header = ("quantity", "max error", "limit", "ok")
    lines = [(row.quantity, f"{row.error:.3g}", f"{row.limit:.3g}", "yes" if row.ok else "NO") for row in rows]
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    for quantity, error, limit, ok in [header, *lines]:
        print(f"{quantity:<{widths[0]}}  {error:>{widths[1]}}  {limit:>{widths[2]}}  {ok}")
    within = sum(row.ok for row in rows)
    print(f"{within} / {len(rows)} within limits")
    return within == len(rows)
