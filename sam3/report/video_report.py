"""The report of a video evaluation: pHOTA and how sure it is, where the rest was lost, which phrases and videos.

One self-contained HTML file. Method: :mod:`sam3.eval.video_errors`, :mod:`sam3.eval.significance`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import sam3
from sam3.errors import DataError
from sam3.eval.hota import ALPHAS
from sam3.eval.loss_split import LossSplit
from sam3.eval.phota import SCORE_THRESHOLD
from sam3.eval.video_errors import PairOutcome, VideoErrorKind, VideoErrors, split_video_loss
from sam3.eval.video_pairs import Kind
from sam3.io.files import write_text
from sam3.report.charts import bar_chart, charts, line_chart
from sam3.report.html import (
    Markup,
    Section,
    image_grid,
    join,
    key_values,
    missing,
    page,
    paragraph,
    section,
    table,
    tiles,
)
from sam3.report.video_analysis import VideoSubset, VideoSubsetAnalysis, analyse, phrases
from sam3.report.video_pictures import worst_strips

MAX_PHRASES = 60
MAX_STRIPS = 8

_MEANING = {
    VideoErrorKind.FALSE_ALARM: "predicted frames of phrases that are not in their video",
    VideoErrorKind.SILENCE: "annotated frames of phrases for which nothing was predicted in their video",
    VideoErrorKind.MISS: "frames of objects without a match, in pairs that were found",
    VideoErrorKind.SPURIOUS: "frames of predicted tracks without a match, in pairs that were found",
    VideoErrorKind.LOCALISATION: "matched frames that overlap less than the IoU threshold asks (mean over them)",
    VideoErrorKind.IDENTITY: "further tracks on an object, and further objects on a track",
}


def write_report_of(path: str | Path, subsets: Sequence[Mapping[str, Any]], kind: Kind, score_threshold: float) -> None:
    """Analyse the subsets, given as the fields of :class:`VideoSubset`, and write the page, whole or not at all.

    Raises:
        DataError: no subset, or a file of one is wrong.
    """
    if not subsets:
        raise DataError("there is nothing to report on: no prediction file was given")
    analyses = [analyse(VideoSubset(**subset), kind, score_threshold=score_threshold) for subset in subsets]
    write_text(path, video_page(analyses, kind, score_threshold))


def video_page(
    analyses: Sequence[VideoSubsetAnalysis], kind: Kind = "segm", score_threshold: float = SCORE_THRESHOLD
) -> str:
    """The whole document."""
    errors = VideoErrors()
    for analysis in analyses:
        errors += analysis.errors
    parts = [part for analysis in analyses for part in analysis.parts()]
    title = analyses[0].subset.name if len(analyses) == 1 else f"{len(analyses)} sets"
    sections = [
        _loss_section(split_video_loss(errors), errors),
        _subset_section(parts) if len(parts) > 1 else None,
        _comparison_section(parts) if any(part.difference for part in parts) else None,
        _phrase_section(analyses),
        _strip_section(analyses, kind),
        _method_section(analyses, score_threshold),
    ]
    return page(
        f"pHOTA of {({'segm': 'masks', 'bbox': 'boxes'})[kind]}: {title}",
        [part for part in sections if part is not None],
        summary=_summary(analyses, errors),
        footer=f"sam3 {sam3.__version__}",
    )


def _summary(analyses: Sequence[VideoSubsetAnalysis], errors: VideoErrors) -> Markup:
    intervals = [analysis.interval for analysis in analyses]
    rates = [analysis.errors.counts().result() for analysis in analyses]
    mean, one = float(np.mean([interval.score for interval in intervals])), intervals[0]
    return tiles(
        {
            "pHOTA × 100" if len(analyses) == 1 else "pHOTA × 100, mean of sets": f"{100 * mean:.2f}",
            **(
                {f"{one.level:.0%} interval": f"{100 * one.low:.2f} – {100 * one.high:.2f}"}
                if len(analyses) == 1
                else {}
            ),
            "DetA × 100": f"{100 * np.mean([rate.det_a for rate in rates]):.2f}",
            "AssA × 100": f"{100 * np.mean([rate.ass_a for rate in rates]):.2f}",
            "videos": f"{sum(len(analysis.truth.videos) for analysis in analyses):,}",
            "pairs found": f"{errors.outcomes[PairOutcome.FOUND]:,}",
            "pairs silent": f"{errors.outcomes[PairOutcome.SILENT]:,}",
            "false alarms": f"{errors.outcomes[PairOutcome.FALSE_ALARM]:,}",
        }
    )


def _loss_section(split: LossSplit, errors: VideoErrors) -> Section:
    score, number = float(split.score.mean()), errors.number
    rows = [
        (kind.value, number[kind], 100 * split.mean_costs[kind], _MEANING[kind])
        for kind in sorted(VideoErrorKind, key=lambda kind: -split.mean_costs[kind])
    ]
    if (rest := 100 * float(split.rest.mean())) > 1e-9:
        rows.append(("beyond correction", None, rest, "no object is annotated, so there is nothing to find"))
    curves = {
        kind.value: [(float(alpha), 100 * float(value)) for alpha, value in zip(ALPHAS, cost, strict=True)]
        for kind, cost in split.costs.items()
    }
    return section(
        "Where the score was lost",
        paragraph(
            f"All pairs together score {100 * score:.2f} of 100; the parts below add up to the other "
            f"{100 - 100 * score:.2f}, at every IoU threshold and in the mean over the 19 thresholds that pHOTA is. "
            "A part is what pHOTA gains when the errors of one kind are put right in the counts it is made of, "
            "averaged over all orders in which the kinds can be put right (Shapley value). The first two kinds are "
            "decided for a video and a phrase as a whole, the others frame by frame and track by track."
        ),
        charts(
            bar_chart("points of pHOTA × 100 lost to", {row[0]: row[2] for row in rows}, digits=2),
            line_chart("points lost at each IoU threshold", curves, x_label="IoU threshold"),
        ),
        table(("kind", "how often", "points", "what it is"), rows, digits=2),
    )


def _subset_section(parts: Sequence[VideoSubsetAnalysis]) -> Section:
    head = ("subset", "pairs", "pHOTA", "from", "to", "DetA", "AssA", *(f"− {kind.value}" for kind in VideoErrorKind))
    rows = []
    for part in parts:
        interval, rates = part.interval, part.errors.counts().result()
        costs = split_video_loss(part.errors).mean_costs
        values = (interval.score, interval.low, interval.high, rates.det_a, rates.ass_a)
        points = [100 * value for value in (*values, *(costs[kind] for kind in VideoErrorKind))]
        rows.append((part.subset.name, len(part.pairs), *points))
    caption = "points of 100; pairs with annotated or predicted tracks; 95 % intervals over videos"
    return section("Subsets", table(head, rows, digits=2, caption=caption))


def _comparison_section(parts: Sequence[VideoSubsetAnalysis]) -> Section:
    head = ("subset", "this file", "other file", "difference", "from", "to", "p")
    rows = []
    for part in parts:
        if part.difference is None or part.other_errors is None:
            continue
        difference = part.difference
        here, there = (split_video_loss(errors).mean_costs for errors in (part.errors, part.other_errors))
        scores = (part.interval.score, part.other_errors.score().mean())
        values = (*scores, difference.difference, difference.low, difference.high)
        won = [100 * (there[kind] - here[kind]) for kind in VideoErrorKind]
        rows.append((part.subset.name, *(100 * float(value) for value in values), difference.p_value, *won))
    return section(
        "Compared with another file",
        paragraph(
            "Difference: this file minus the other one, on the same videos, with a 95 % bootstrap interval; p: how "
            "often files exchanged video by video at random differ as much. Δ: points won (+) or lost (−) by kind of "
            "error."
        ),
        table((*head, *(f"Δ {kind.value}" for kind in VideoErrorKind)), rows, digits=3),
    )


def _phrase_section(analyses: Sequence[VideoSubsetAnalysis]) -> Section:
    results = phrases(analyses)
    head = ("phrase", "gain", "pHOTA", "annotated frames", *(kind.value for kind in VideoErrorKind))
    rows = [
        (
            result.phrase,
            100 * result.gain,
            100 * float(result.errors.score().mean()),
            int(result.errors.annotated_frames),
            *(result.errors.number[kind] for kind in VideoErrorKind),
        )
        for result in results[:MAX_PHRASES]
    ]
    more = f" The first {MAX_PHRASES} of {len(results)} phrases with errors." if len(results) > MAX_PHRASES else ""
    return section(
        "Phrases",
        paragraph(f"Gain: points that pHOTA over all pairs would win if the phrase were answered without error.{more}"),
        table(head, rows, digits=2) if rows else paragraph("no phrase holds an error", muted=True),
    )


def _strip_section(analyses: Sequence[VideoSubsetAnalysis], kind: Kind) -> Section:
    with_frames = [analysis for analysis in analyses if analysis.subset.frame_folder is not None]
    if not with_frames:
        return section("Worst pairs", missing("no folder of frames was given (--frames), so none are shown"))
    each = max(1, MAX_STRIPS // len(with_frames))
    shown = [entry for analysis in with_frames for entry in worst_strips(analysis, each, kind)]
    return section(
        "Worst pairs",
        paragraph(
            "Most wrong frames first; annotated tracks above, predicted ones below. Each object gives its colour to "
            "one of the tracks that follow it, so that most frames agree; other tracks have colours of their own.",
            muted=True,
        ),
        image_grid(shown, least_width=560) if shown else paragraph("no pair holds an error", muted=True),
    )


def _method_section(analyses: Sequence[VideoSubsetAnalysis], score_threshold: float) -> Section:
    subsets = [analysis.subset for analysis in analyses]
    other = {subset.name: [f"compared with {subset.other_pred_file}"] for subset in subsets if subset.other_pred_file}
    return section(
        "Files and method",
        key_values(
            {
                subset.name: join([subset.pred_file, subset.gt_file, *other.get(subset.name, [])], ", ")
                for subset in subsets
            }
        ),
        paragraph(
            f"Predicted tracks with a score above {score_threshold:g} count. Matches are those of HOTA: one "
            "assignment per frame, favouring tracks that agree over the whole video. How each kind of error is put "
            "right is described in docs/evaluation_video.md. Intervals: 2,000 draws of videos with replacement; "
            "phrases of one video are never separated."
        ),
    )
