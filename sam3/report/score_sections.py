"""What the reports of image and video evaluations share: the page, its first numbers, and sections about the loss.

Words and rows that depend on the measure come from :mod:`sam3.report.evaluation_report` and
:mod:`sam3.report.video_report`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import numpy as np

import sam3
from sam3.eval.loss_split import LossSplit
from sam3.eval.significance import Interval, PairedDifference
from sam3.report.charts import bar_chart, charts, line_chart
from sam3.report.html import Markup, Section, image_grid, missing, page, paragraph, section, table

MAX_PHRASES = 60
BEYOND = "beyond correction"

Analysis = TypeVar("Analysis")
Row = tuple[Any, ...]


def score_page(title: str, sections: Iterable[Section | None], summary: Markup) -> str:
    """The whole document; sections that are None have nothing to say."""
    shown = [part for part in sections if part is not None]
    return page(title, shown, summary=summary, footer=f"sam3 {sam3.__version__}")


def page_title(measure: str, iou_type: str, names: Sequence[str], sets: str) -> str:
    """Measure, what is compared, and the name of the set, or how many ``sets`` there are."""
    title = names[0] if len(names) == 1 else f"{len(names)} {sets}"
    return f"{measure} of {({'segm': 'masks', 'bbox': 'boxes'})[iou_type]}: {title}"


def score_tiles(measure: str, intervals: Sequence[Interval], sets: str) -> dict[str, str]:
    """The score with its interval; of several ``sets``, the mean alone."""
    if len(intervals) > 1:
        mean = float(np.mean([interval.score for interval in intervals]))
        return {f"{measure} × 100, mean of {sets}": f"{100 * mean:.2f}"}
    (one,) = intervals
    return {
        f"{measure} × 100": f"{100 * one.score:.2f}",
        f"{one.level:.0%} interval": f"{100 * one.low:.2f} – {100 * one.high:.2f}",
    }


def loss_rows(split: LossSplit, number: Mapping[Enum, float], meaning: Mapping[Enum, str]) -> list[Row]:
    """Kind, how often, points and what it is; the kind that costs most first."""
    return [
        (kind.value, number[kind], 100 * split.mean_costs[kind], meaning[kind])
        for kind in sorted(split.costs, key=lambda kind: -split.mean_costs[kind])
    ]


def loss_section(
    text: str,
    split: LossSplit,
    *,
    measure: str,
    thresholds: Sequence[float] | np.ndarray,
    rows: Sequence[Row],
    bars: Mapping[str, float],
) -> Section:
    """What each kind of error costs.

    Args:
        text: what the numbers mean.
        thresholds: (A,) those of ``split``.
        rows: of the table; see :func:`loss_rows`.
        bars: points by name.
    """
    curves = {
        kind.value: [(float(threshold), 100 * float(value)) for threshold, value in zip(thresholds, cost, strict=True)]
        for kind, cost in split.costs.items()
    }
    return section(
        "Where the score was lost",
        paragraph(text),
        charts(
            bar_chart(f"points of {measure} × 100 lost to", bars, digits=2),
            line_chart("points lost at each IoU threshold", curves, x_label="IoU threshold"),
        ),
        table(("kind", "how often", "points", "what it is"), rows, digits=2),
    )


def comparison_row(
    name: str, scores: tuple[float, float], difference: PairedDifference, splits: tuple[LossSplit, LossSplit]
) -> Row:
    """A subset in the eyes of two files; ``scores`` and ``splits`` are those of this file and of the other."""
    here, there = (split.mean_costs for split in splits)
    values = (*scores, difference.difference, difference.low, difference.high)
    won = (100 * (there[kind] - here[kind]) for kind in here)
    return (name, *(100 * float(value) for value in values), difference.p_value, *won)


def comparison_section(rows: Sequence[Row], kinds: Iterable[Enum], item: str) -> Section:
    """``rows``: of :func:`comparison_row`; ``item``: what is drawn, like picture."""
    head = (
        "subset",
        "this file",
        "other file",
        "difference",
        "from",
        "to",
        "p",
        *(f"Δ {kind.value}" for kind in kinds),
    )
    return section(
        "Compared with another file",
        paragraph(
            f"Difference: this file minus the other one, on the same {item}s, with a 95 % bootstrap interval; p: how "
            f"often files exchanged {item} by {item} at random differ as much. Δ: points won (+) or lost (−) by kind "
            "of error."
        ),
        table(head, rows, digits=3),
    )


def phrase_section(measure: str, num_phrases: int, shown: Markup) -> Section:
    """``shown``: the first :data:`MAX_PHRASES` of ``num_phrases`` phrases with errors."""
    more = f" The first {MAX_PHRASES} of {num_phrases} phrases with errors." if num_phrases > MAX_PHRASES else ""
    gain = f"Gain: points that {measure} over all pairs would win if the phrase were answered without error.{more}"
    return section("Phrases", paragraph(gain), shown)


def worst_pairs_section(
    analyses: Sequence[Analysis],
    pictures: Callable[[Analysis, int], Iterable[tuple[Markup, Any]]],
    *,
    limit: int,
    without: str,
    legend: str,
    least_width: int,
) -> Section:
    """The worst pairs of ``analyses`` as pictures, ``limit`` of them shared evenly.

    Args:
        analyses: those whose pictures are known.
        pictures: gives so many of one, with captions.
        without: what is said if there are no ``analyses``.
        least_width: of one picture, pixels of the screen.
    """
    if not analyses:
        return section("Worst pairs", missing(without))
    each = max(1, limit // len(analyses))
    shown = [entry for analysis in analyses for entry in pictures(analysis, each)]
    grid = image_grid(shown, least_width=least_width) if shown else paragraph("no pair holds an error", muted=True)
    return section("Worst pairs", paragraph(legend, muted=True), grid)
