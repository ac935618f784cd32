"""The report of an evaluation: the score and how sure it is, where the rest was lost, which phrases and pictures.

One self-contained HTML file. Method: :mod:`sam3.eval.error_analysis`, :mod:`sam3.eval.significance`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sam3.errors import DataError
from sam3.eval.cgf1 import IOU_THRESHOLDS, Outcome
from sam3.eval.error_analysis import ErrorCounts, ErrorKind, split_loss
from sam3.eval.loss_split import LossSplit
from sam3.io.files import write_text
from sam3.report.evaluation_analysis import Subset, SubsetAnalysis, analyse, phrases, together
from sam3.report.evaluation_pictures import worst_pictures
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

MAX_PICTURES = 12

_MEANING = {
    ErrorKind.FALSE_ALARM: "pairs whose phrase is absent, yet something was predicted",
    ErrorKind.SILENCE: "pairs whose phrase is there, yet nothing was predicted",
    ErrorKind.LOCALISATION: "predictions that overlap their object less than the IoU threshold asks (mean over them)",
    ErrorKind.MISS: "objects without a prediction, in pairs where others were found",
    ErrorKind.DUPLICATE: "further predictions on an object",
    ErrorKind.SPURIOUS: "predictions on nothing, in pairs whose phrase is there",
}


def write_evaluation_report(path: str | Path, subsets: Sequence[Subset], *, iou_type: str = "segm") -> None:
    """Analyse the subsets and write the report, whole or not at all.

    Raises:
        DataError: no subset, or a file of one is wrong.
    """
    if not subsets:
        raise DataError("there is nothing to report on: no prediction file was given")
    analyses = [analyse(subset, iou_type) for subset in subsets]
    write_text(path, evaluation_page(analyses, iou_type))


def write_report_of(path: str | Path, subsets: Sequence[Mapping[str, Any]], iou_type: str) -> None:
    """:func:`write_evaluation_report` with the fields of :class:`Subset` as the commands know them."""

    def optional(value: Any) -> Path | None:
        return None if value is None else Path(value)

    write_evaluation_report(
        path,
        [
            Subset(
                name=str(subset["name"]),
                pred_file=Path(subset["pred_file"]),
                gt_files=tuple(map(Path, subset["gt_files"])),
                other_pred_file=optional(subset.get("other_pred_file")),
                image_folder=optional(subset.get("image_folder")),
            )
            for subset in subsets
        ],
        iou_type=iou_type,
    )


def evaluation_page(analyses: Sequence[SubsetAnalysis], iou_type: str) -> str:
    """The whole document."""
    counts = together(analyses)
    sections = [
        _loss_section(split_loss(counts), counts),
        _subset_section(analyses) if len(analyses) > 1 else None,
        _comparison_section(analyses) if any(a.difference for a in analyses) else None,
        _phrase_section(analyses),
        _picture_section(analyses),
        _method_section(analyses),
    ]
    title = page_title("cgF1", iou_type, [analysis.subset.name for analysis in analyses], "subsets")
    return score_page(title, sections, _summary(analyses, counts))


def _summary(analyses: Sequence[SubsetAnalysis], counts: ErrorCounts) -> Markup:
    rates = [analysis.counts.rates() for analysis in analyses]
    entries = {
        **score_tiles("cgF1", [analysis.interval for analysis in analyses], "subsets"),
        "pmF1 × 100": f"{100 * np.mean([rate.positive_micro_f1.mean() for rate in rates]):.2f}",
        "IL_MCC": f"{np.mean([rate.il_mcc for rate in rates]):.3f}",
        "pairs": f"{sum(counts.outcomes.values()):,}",
        "with the phrase in the picture": f"{counts.outcomes[Outcome.TP] + counts.outcomes[Outcome.FN]:,}",
    }
    return tiles(entries)


def _loss_section(split: LossSplit, counts: ErrorCounts) -> Section:
    score = float(split.score.mean())
    bars = {kind.value: 100 * cost for kind, cost in split.mean_costs.items()}
    rest = 100 * float(split.rest.mean())
    definition = "the definition's own: epsilons, or no absent (or present) phrase at all"
    return loss_section(
        f"All pairs together score {100 * score:.2f} of 100; the parts below add up to the other "
        f"{100 - 100 * score:.2f}. A part is what the score gains when the errors of one kind are put right, "
        "averaged over all orders in which the kinds can be put right (Shapley value). The first two kinds are "
        "decided for the picture as a whole, the others object by object.",
        split,
        measure="cgF1",
        thresholds=IOU_THRESHOLDS,
        rows=[*loss_rows(split, counts.number, _MEANING), (BEYOND, None, rest, definition)],
        bars={**bars, BEYOND: rest},
    )


def _subset_section(analyses: Sequence[SubsetAnalysis]) -> Section:
    head = ("subset", "pairs", "cgF1", "from", "to", "IL_MCC", "pmF1", *(f"− {kind.value}" for kind in ErrorKind))
    rows = []
    for analysis in analyses:
        interval, rates = analysis.interval, analysis.counts.rates()
        costs = split_loss(analysis.counts).mean_costs
        rows.append(
            (
                analysis.subset.name,
                len(analysis.errors),
                100 * interval.score,
                100 * interval.low,
                100 * interval.high,
                rates.il_mcc,
                100 * float(rates.positive_micro_f1.mean()),
                *(100 * costs[kind] for kind in ErrorKind),
            )
        )
    return section("Subsets", table(head, rows, digits=2, caption="points of 100; 95 % intervals over pictures"))


def _comparison_section(analyses: Sequence[SubsetAnalysis]) -> Section:
    rows = [
        comparison_row(
            analysis.subset.name,
            (analysis.interval.score, float(analysis.other_counts.score().mean())),
            analysis.difference,
            (split_loss(analysis.counts), split_loss(analysis.other_counts)),
        )
        for analysis in analyses
        if analysis.difference is not None
    ]
    return comparison_section(rows, ErrorKind, "picture")


def _phrase_section(analyses: Sequence[SubsetAnalysis]) -> Section:
    results = phrases(analyses)
    head = ("phrase", "gain", "pairs with it", "without it", *(kind.value for kind in ErrorKind))
    rows = []
    for result in results[:MAX_PHRASES]:
        outcomes, number = result.counts.outcomes, result.counts.number
        present = outcomes[Outcome.TP] + outcomes[Outcome.FN]
        absent = outcomes[Outcome.FP] + outcomes[Outcome.TN]
        rows.append((result.phrase, 100 * result.gain, present, absent, *(number[kind] for kind in ErrorKind)))
    return phrase_section("cgF1", len(results), table(head, rows, digits=2))


def _picture_section(analyses: Sequence[SubsetAnalysis]) -> Section:
    return worst_pairs_section(
        [analysis for analysis in analyses if analysis.subset.image_folder is not None],
        worst_pictures,
        limit=MAX_PICTURES,
        without="no folder of pictures was given (--images), so none are shown",
        legend="Most wrong predictions and objects first; annotated left, predicted right.",
        least_width=420,
    )


def _method_section(analyses: Sequence[SubsetAnalysis]) -> Section:
    files = {
        analysis.subset.name: join(
            [analysis.subset.pred_file, *analysis.subset.gt_files, *_given(analysis.subset.other_pred_file)], ", "
        )
        for analysis in analyses
    }
    return section(
        "Files and method",
        key_values(files),
        paragraph(
            "Predictions with a score of 0.5 or more count, each pair against the annotator kindest to it, as in "
            "the published metric. Predictions and objects belong together from an IoU of 0.1 on. Intervals: 2,000 "
            "draws of pictures with replacement; phrases of one picture are never separated."
        ),
    )


def _given(path: Path | None) -> list[str]:
    return [] if path is None else [f"compared with {path}"]
