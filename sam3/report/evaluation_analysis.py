"""What an evaluation report shows, worked out from files: errors of every pair, by subset and by phrase."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sam3.data.saco import SacoPair, read_pairs
from sam3.eval.cgf1 import SCORE_THRESHOLD
from sam3.eval.cgf1_files import Comparison, read_comparison
from sam3.eval.error_analysis import ErrorCounts, PairErrors, gain_if_perfect, take_apart
from sam3.eval.significance import CountTable, Interval, PairedDifference, bootstrap, compare, count_table


@dataclass(frozen=True)
class Subset:
    """One prediction file and what it is compared with."""

    name: str
    pred_file: Path
    gt_files: tuple[Path, ...]
    other_pred_file: Path | None = None  # a second file, to be compared with the first
    image_folder: Path | None = None  # to show pictures


@dataclass
class SubsetAnalysis:
    """The errors of one prediction file."""

    subset: Subset
    comparison: Comparison
    pairs: dict[int, SacoPair]  # by id
    errors: list[PairErrors]
    other_errors: list[PairErrors] | None = None
    counts: ErrorCounts = field(init=False)

    def __post_init__(self) -> None:
        self.counts = _counted(self.errors)

    @cached_property
    def table(self) -> CountTable:
        """One row for each picture."""
        return self._table(self.errors)

    @cached_property
    def interval(self) -> Interval:
        """cgF1 with its bootstrap interval."""
        return bootstrap(self.table)

    @cached_property
    def difference(self) -> PairedDifference | None:
        """First file minus second file; positive = the first is better."""
        return None if self.other_errors is None else compare(self._table(self.other_errors), self.table)

    @cached_property
    def other_counts(self) -> ErrorCounts | None:
        return None if self.other_errors is None else _counted(self.other_errors)

    def _table(self, errors: Sequence[PairErrors]) -> CountTable:
        names = dict.fromkeys(self.pairs[pair.pair_id].file_name for pair in errors)
        index = {name: number for number, name in enumerate(names)}
        return count_table(
            errors, {pair.pair_id: index[self.pairs[pair.pair_id].file_name] for pair in errors}, len(index)
        )

    def worst(self, count: int) -> list[PairErrors]:
        """The pairs with the most wrong predictions and objects, one a picture and phrase."""
        wrong = [pair for pair in self.errors if pair.worst_first()[0] < 0]
        return sorted(wrong, key=PairErrors.worst_first)[:count]


@dataclass(frozen=True)
class PhraseResult:
    """How one phrase did, over all subsets."""

    phrase: str
    counts: ErrorCounts
    gain: float  # what cgF1 over everything would gain if its pairs held no error


def analyse(subset: Subset, iou_type: str = "segm", *, score_threshold: float = SCORE_THRESHOLD) -> SubsetAnalysis:
    """Take every pair of a prediction file apart, and of the second one if there is one.

    Raises:
        DataError: a file is wrong; see :func:`sam3.eval.cgf1_files.read_comparison`.
    """
    comparison = read_comparison(subset.pred_file, subset.gt_files, iou_type, score_threshold=score_threshold)
    other = None
    if subset.other_pred_file is not None:
        second = read_comparison(subset.other_pred_file, subset.gt_files, iou_type, score_threshold=score_threshold)
        other = [take_apart(pair, score_threshold) for pair in second.pairs()]
    return SubsetAnalysis(
        subset=subset,
        comparison=comparison,
        pairs={pair.pair_id: pair for pair in read_pairs(subset.gt_files[0])},
        errors=[take_apart(pair, score_threshold) for pair in comparison.pairs()],
        other_errors=other,
    )


def together(analyses: Sequence[SubsetAnalysis]) -> ErrorCounts:
    """All pairs of all subsets."""
    total = ErrorCounts()
    for analysis in analyses:
        total = total + analysis.counts
    return total


def phrases(analyses: Sequence[SubsetAnalysis]) -> list[PhraseResult]:
    """Phrases with errors, the one that costs most first."""
    counts: dict[str, ErrorCounts] = {}
    for analysis in analyses:
        for pair in analysis.errors:
            counts.setdefault(analysis.pairs[pair.pair_id].phrase, ErrorCounts()).add(pair)
    everything = together(analyses)
    results = [
        PhraseResult(phrase, own, gain_if_perfect(everything, own))
        for phrase, own in counts.items()
        if any(own.number.values())
    ]
    return sorted(results, key=lambda result: (-result.gain, result.phrase))


def _counted(errors: Sequence[PairErrors]) -> ErrorCounts:
    counts = ErrorCounts()
    for pair in errors:
        counts.add(pair)
    return counts
