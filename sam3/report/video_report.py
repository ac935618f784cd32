"""The report of a video evaluation: pHOTA and how sure it is, where the rest was lost, which phrases and videos.

One self-contained HTML file. Method: :mod:`sam3.eval.video_errors`, :mod:`sam3.eval.significance`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sam3.errors import DataError
from sam3.eval.hota import ALPHAS
from sam3.eval.loss_split import LossSplit
from sam3.eval.phota import SCORE_THRESHOLD
from sam3.eval.video_errors import PairOutcome, VideoErrorKind, VideoErrors, split_video_loss
from sam3.eval.video_pairs import Kind
from sam3.io.files import write_text
from sam3.report.html import Markup, Section, join, key_values, paragraph, section, table, tiles
from sam3.report.score_sections import (
    BEYOND,
    MAX_PHRASES,
    comparison_row,
    comparison_section,
    loss_rows,
    loss_section,
    page_title,
    phrase_section,
    score_page,
    score_tiles,
    worst_pairs_section,
)
from sam3.report.video_analysis import VideoSubset, VideoSubsetAnalysis, analyse, phrases
from sam3.report.video_pictures import worst_strips

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
    sections = [
        _loss_section(split_video_loss(errors), errors),
        _subset_section(parts) if len(parts) > 1 else None,
        _comparison_section(parts) if any(part.difference for part in parts) else None,
        _phrase_section(analyses),
        _strip_section(analyses, kind),
        _method_section(analyses, score_threshold),
    ]
    title = page_title("pHOTA", kind, [analysis.subset.name for analysis in analyses], "sets")
    return score_page(title, sections, _summary(analyses, errors))


def _summary(analyses: Sequence[VideoSubsetAnalysis], errors: VideoErrors) -> Markup:
    rates = [analysis.errors.counts().result() for analysis in analyses]
    return tiles(
        {
            **score_tiles("pHOTA", [analysis.interval for analysis in analyses], "sets"),
            "DetA × 100": f"{100 * np.mean([rate.det_a for rate in rates]):.2f}",
            "AssA × 100": f"{100 * np.mean([rate.ass_a for rate in rates]):.2f}",
            "videos": f"{sum(len(analysis.truth.videos) for analysis in analyses):,}",
            "pairs found": f"{errors.outcomes[PairOutcome.FOUND]:,}",
            "pairs silent": f"{errors.outcomes[PairOutcome.SILENT]:,}",
            "false alarms": f"{errors.outcomes[PairOutcome.FALSE_ALARM]:,}",
        }
    )


def _loss_section(split: LossSplit, errors: VideoErrors) -> Section:
    score = float(split.score.mean())
    rows = loss_rows(split, errors.number, _MEANING)
    if (rest := 100 * float(split.rest.mean())) > 1e-9:
        rows.append((BEYOND, None, rest, "no object is annotated, so there is nothing to find"))
    return loss_section(
        f"All pairs together score {100 * score:.2f} of 100; the parts below add up to the other "
        f"{100 - 100 * score:.2f}, at every IoU threshold and in the mean over the 19 thresholds that pHOTA is. "
        "A part is what pHOTA gains when the errors of one kind are put right in the counts it is made of, "
        "averaged over all orders in which the kinds can be put right (Shapley value). The first two kinds are "
        "decided for a video and a phrase as a whole, the others frame by frame and track by track.",
        split,
        measure="pHOTA",
        thresholds=ALPHAS,
        rows=rows,
        bars={row[0]: row[2] for row in rows},
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
    rows = [
        comparison_row(
            part.subset.name,
            (part.interval.score, float(part.other_errors.score().mean())),
            part.difference,
            (split_video_loss(part.errors), split_video_loss(part.other_errors)),
        )
        for part in parts
        if part.difference is not None and part.other_errors is not None
    ]
    return comparison_section(rows, VideoErrorKind, "video")


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
    shown = table(head, rows, digits=2) if rows else paragraph("no phrase holds an error", muted=True)
    return phrase_section("pHOTA", len(results), shown)


def _strip_section(analyses: Sequence[VideoSubsetAnalysis], kind: Kind) -> Section:
    return worst_pairs_section(
        [analysis for analysis in analyses if analysis.subset.frame_folder is not None],
        lambda analysis, count: worst_strips(analysis, count, kind),
        limit=MAX_STRIPS,
        without="no folder of frames was given (--frames), so none are shown",
        legend="Most wrong frames first; annotated tracks above, predicted ones below. Each object gives its colour to "
        "one of the tracks that follow it, so that most frames agree; other tracks have colours of their own.",
        least_width=560,
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
