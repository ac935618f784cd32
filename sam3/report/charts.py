"""Curves, bars and heat maps as inline SVG and HTML, in the colours of the page.

A chart is a figure of the width it is given; its letters stay readable because it is drawn small
(:data:`WIDTH`) and never shown much smaller.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sam3.report.html import Markup, element, number

WIDTH, HEIGHT = 360, 210  # of the drawing; shown at least about 320 pixels wide
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 8, 22
COLOURS = 8  # --c0 to --c7 of the style
MAX_POINTS = 400  # of a curve; more cannot be seen
STRONG = 0.55  # share from which letters on a cell are white

Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Scale:
    """Values of an axis to places on it."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.is_log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.stop - self.start)


def line_chart(
    title: str,
    series: Mapping[str, Points],
    *,
    x_label: str = "epoch",
    log: bool = False,
    limits: tuple[float, float] | None = None,
    note: str | None = None,
) -> Markup | None:
    """Curves over a common axis, with the values under the pointer in the legend; None if there is no point.

    Args:
        series: name -> (x, y) in ascending order of x; a y that is None or not finite leaves a gap.
        log: logarithmic y; values that are not positive are gaps.
        limits: of y; left out, those of the values.
    """
    curves = {name: _thinned(_usable(points, log)) for name, points in series.items()}
    curves = {name: points for name, points in curves.items() if any(y is not None for _, y in points)}
    if not curves:
        return None
    xs = sorted({x for points in curves.values() for x, _ in points})
    ys = [y for points in curves.values() for _, y in points if y is not None]
    x_scale = Scale(*_widened(xs[0], xs[-1]), LEFT, WIDTH - RIGHT)
    y_ticks = _log_ticks(min(ys), max(ys)) if log else nice_ticks(*(limits or (min(ys), max(ys))))
    low, high = (min(*ys, *y_ticks), max(*ys, *y_ticks)) if log else (y_ticks[0], y_ticks[-1])
    y_scale = Scale(*_widened(low, high, log), HEIGHT - BOTTOM, TOP, log)
    drawing = [*_axes(x_scale, y_scale, y_ticks, whole=all(float(x).is_integer() for x in xs))]
    for index, points in enumerate(curves.values()):
        drawing += _curve(points, x_scale, y_scale, f"var(--c{index % COLOURS})")
    drawing.append(element("line", class_="cursor", x1=0, x2=0, y1=TOP, y2=HEIGHT - BOTTOM))
    return _figure(title, drawing, curves, x_label=x_label, xs=xs, x_scale=x_scale, note=note)


def bar_chart(title: str, bars: Mapping[str, float | None], *, digits: int = 3, high: float | None = None) -> Markup:
    """Horizontal bars, one a line; the longest fills its line, or ``high`` would."""
    top = high or max((value for value in bars.values() if _is_finite(value)), default=0) or 1
    rows = [element("tr", *_bar_cells(name, value, top, digits)) for name, value in bars.items()]
    return element("figure", element("h3", title), element("table", *rows, class_="bars"))


def _bar_cells(name: str, value: float | None, top: float, digits: int) -> tuple[Markup, ...]:
    share = min(1.0, max(0.0, value / top)) if _is_finite(value) else 0.0
    bar = element("rect", width=f"{100 * share:.2f}%", height="100%", rx=2, fill="var(--c0)")
    drawing = element("td", element("svg", bar, role="presentation"))
    return element("th", name, scope="row"), drawing, element("td", number(value, digits), class_="number")


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]] | np.ndarray,
    *,
    shares: Sequence[Sequence[float | None]] | np.ndarray | None = None,
    corner: str = "",
    digits: int = 2,
) -> Markup:
    """A table whose cells are the darker the larger their share.

    Args:
        values: what is written in the cells, (rows, columns).
        shares: 0 to 1, what the cells' colours say; left out, ``values``.
        corner: what rows and columns are.
    """
    shares = values if shares is None else shares
    top = [element("th", corner), *(element("th", name, scope="col", class_="number") for name in columns)]
    body = []
    for row, name in enumerate(rows):
        cells = [_heat_cell(values[row][column], shares[row][column], digits) for column in range(len(columns))]
        body.append(element("tr", element("th", name, scope="row"), *cells))
    whole = element("table", element("thead", element("tr", *top)), element("tbody", *body), class_="heat")
    return element("div", whole, class_="scroll")


def charts(*figures: Markup | None) -> Markup:
    """Charts side by side as far as there is room; None is left out."""
    return element("div", *(figure for figure in figures if figure is not None), class_="grid", style="--least:310px")


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers around ``low`` to ``high``, about ``count`` steps apart; at least two."""
    low, high = _widened(low, high)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((factor * power for factor in (1, 2, 2.5, 5) if factor * power >= raw * 0.999), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def short(value: float) -> str:
    """A number for an axis: few characters, no trailing zeros."""
    size = abs(value)
    if value and (size < 1e-3 or size >= 1e6):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def _usable(points: Points, log: bool) -> list[tuple[float, float | None]]:
    def is_good(y: float | None) -> bool:
        return y is not None and math.isfinite(y) and (y > 0 or not log)

    return [(x, y if is_good(y) else None) for x, y in points]


def _thinned(points: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """Evenly chosen points, the last one included."""
    step = -(-len(points) // MAX_POINTS)
    return points if step <= 1 else points[:-1:step] + points[-1:]


def _widened(low: float, high: float, log: bool = False) -> tuple[float, float]:
    """Room around a single value; what is never negative starts at 0."""
    if high > low:
        return low, high
    if log:
        return low / 2, low * 2
    return (0.0, 2 * low or 1.0) if low >= 0 else (1.5 * low, 0.5 * low)


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten; with less than two of them between ``low`` and ``high`` also their doubles and fives."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [10.0**power for power in powers if low <= 10.0**power <= high]
    if len(inside) >= 2:
        return inside[:: -(-len(inside) // 6)]
    return [f * 10.0**p for p in powers for f in (1, 2, 5) if low * 0.8 <= f * 10.0**p <= high * 1.25] or [low, high]


def _axes(x_scale: Scale, y_scale: Scale, y_ticks: Sequence[float], *, whole: bool) -> list[Markup]:
    drawing = []
    for tick in y_ticks:
        y = f"{y_scale(tick):.1f}"
        drawing.append(element("line", class_="gridline", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        drawing.append(element("text", short(tick), x=LEFT - 6, y=y, text_anchor="end", dominant_baseline="middle"))
    inside = [t for t in nice_ticks(x_scale.low, x_scale.high, 7) if x_scale.low <= t <= x_scale.high]
    for tick in inside:
        if not whole or float(tick).is_integer():
            x = f"{x_scale(tick):.1f}"
            drawing.append(element("text", short(tick), x=x, y=HEIGHT - 6, text_anchor="middle"))
    return drawing


def _curve(points: Points, x_scale: Scale, y_scale: Scale, colour: str) -> list[Markup]:
    """Lines between neighbouring points, and dots where there are few."""
    placed = [None if y is None else (x_scale(x), y_scale(y)) for x, y in points]
    path, previous = [], None
    for place in placed:
        if place is not None:
            path.append(f"{'L' if previous else 'M'}{place[0]:.1f} {place[1]:.1f}")
        previous = place
    drawing = [element("path", class_="curve", d="".join(path), style=f"stroke:{colour}")]
    if len(points) <= 30:
        dots = [
            element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=2.5, style=f"fill:{colour}")
            for x, y in filter(None, placed)
        ]
        drawing += dots
    return drawing


def _figure(
    title: str,
    drawing: Sequence[Markup],
    curves: Mapping[str, Points],
    *,
    x_label: str,
    xs: Sequence[float],
    x_scale: Scale,
    note: str | None,
) -> Markup:
    values = [dict(points) for points in curves.values()]
    data = {
        "label": x_label,
        "names": [short(x) for x in xs],
        "places": [round(x_scale(x), 1) for x in xs],
        "values": [[None if (y := own.get(x)) is None else f"{y:.4g}" for x in xs] for own in values],
    }
    description = f"{title} over {x_label}: " + ", ".join(
        f"{name} ends at {next(f'{y:.4g}' for _, y in reversed(points) if y is not None)}"
        for name, points in curves.items()
    )
    svg = element(
        "svg",
        *drawing,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=description,
        data_series=json.dumps(data, separators=(",", ":")),
    )
    legend = [
        element("span", element("i", style=f"background:var(--c{index % COLOURS})"), name, element("b"))
        for index, name in enumerate(curves)
    ]
    caption = element("figcaption", note) if note else ""
    where = element("span", class_="where")
    return element("figure", element("h3", title), svg, element("div", *legend, where, class_="legend"), caption)


def _heat_cell(value: float | None, share: float | None, digits: int) -> Markup:
    if not _is_finite(value):
        return element("td", "–")
    share = min(1.0, max(0.0, float(share))) if _is_finite(share) else 0.0
    style = f"background:rgba(var(--heat),{share:.2f})"
    return element("td", number(value, digits), class_="strong" if share >= STRONG else None, style=style)
