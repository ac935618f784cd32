"""cgF1 of a prediction file: which pairs count, and their instances, one pair after the other or in several processes.

Source: spec/evaluation.md 2.2 and 2.6.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sam3.data.instance_table import IOU_TYPES, InstanceTable, IouType
from sam3.data.saco_truth import GroundTruth, read_ground_truth
from sam3.errors import DataError, listed
from sam3.eval.cgf1 import SCORE_THRESHOLD, Cgf1, Pair, PairResult, Totals, judge, judge_unpredicted, total
from sam3.eval.parallel import ordered_map
from sam3.eval.prediction_table import Predictions, read_predictions_table

_log = logging.getLogger(__name__)

_Rows = tuple[int, int]  # the first, and the one behind the last

_PAIRS_AT_ONCE = 250  # sums are formed over so many, in the same order however many processes there are


@dataclass(frozen=True)
class Comparison:
    """One prediction file against the files of the annotators, read and checked."""

    iou_type: IouType
    pair_ids: np.ndarray  # (P,) int64, those that are evaluated
    predictions: Predictions  # its instances, and those of the annotators, are sorted by pair
    annotators: tuple[GroundTruth, ...]
    accepted: tuple[np.ndarray, ...] | None  # (N,) bool: predictions of a category that the annotator knows; None = all

    def __len__(self) -> int:
        return len(self.pair_ids)

    def pairs(self) -> Iterator[Pair]:
        """The evaluated pairs, each put together when its turn comes."""
        return (self._pair(*place) for place in self._places(0, len(self)))

    def judged(self, start: int, stop: int, score_threshold: float) -> Iterator[PairResult]:
        """The evaluated pairs ``start`` to ``stop``, judged one after the other."""
        for pair_id, rows, others in self._places(start, stop):
            if rows[0] == rows[1]:
                yield judge_unpredicted(pair_id, tuple([last - first for first, last in others]))
            else:
                yield judge(self._pair(pair_id, rows, others), score_threshold)

    def _places(self, start: int, stop: int) -> Iterator[tuple[int, _Rows, list[_Rows]]]:
        """Id, the rows of the predictions, and the rows of each annotator."""
        pair_ids = self.pair_ids[start:stop]
        tables = self.predictions.instances, *(truth.objects for truth in self.annotators)
        places = zip(*(table.bounds_of(pair_ids) for table in tables), strict=True)
        for pair_id, (rows, *others) in zip(pair_ids.tolist(), places, strict=True):
            yield pair_id, rows, others

    def _pair(self, pair_id: int, rows: _Rows, others: list[_Rows]) -> Pair:
        found = self.predictions.instances
        return Pair(
            pair_id,
            predictions=found.shapes(*rows),
            scores=found.scores[slice(*rows)],
            annotators=[truth.objects.shapes(*own) for truth, own in zip(self.annotators, others, strict=True)],
            accepted=None if self.accepted is None else [mask[slice(*rows)] for mask in self.accepted],
        )

    @property
    def num_ignored_pairs(self) -> int:
        """Pairs that have predictions but are not evaluated: unknown, or not exhaustively annotated."""
        return int(np.count_nonzero(~np.isin(self.predictions.pair_ids, self.pair_ids)))


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one prediction file, and, on request, how every pair came out."""

    cgf1: Cgf1
    num_ignored_pairs: int
    pairs: tuple[PairResult, ...] | None


def evaluate_files(
    pred_file: str | Path,
    gt_files: Sequence[str | Path],
    iou_type: IouType = "segm",
    *,
    score_threshold: float = SCORE_THRESHOLD,
    workers: int = 1,
    keep_pairs: bool = False,
) -> Evaluation:
    """cgF1 of a prediction file against one file per annotator.

    Args:
        pred_file: COCO result records; ``image_id`` is the id of a pair.
        gt_files: the first one gives the pairs and their order.
        iou_type: ``"segm"`` or ``"bbox"``.
        score_threshold: predictions below it do not exist.
        workers: processes; the numbers are the same to the last digit.
        keep_pairs: also return the result of every pair.

    Raises:
        DataError: a file is wrong, no pair is exhaustively annotated, or an annotator lacks a pair.
    """
    comparison = read_comparison(pred_file, gt_files, iou_type, score_threshold=score_threshold, workers=workers)
    totals, kept = Totals(), []
    starts = range(0, len(comparison), _PAIRS_AT_ONCE)
    judge_block = partial(_judge_block, score_threshold=score_threshold, keep_pairs=keep_pairs)
    for block, results in ordered_map(judge_block, starts, workers=workers, shared=comparison):
        totals.merge(block)
        kept += results
    return Evaluation(
        cgf1=totals.result(iou_type),
        num_ignored_pairs=comparison.num_ignored_pairs,
        pairs=tuple(kept) if keep_pairs else None,
    )


def _judge_block(
    start: int, comparison: Comparison, *, score_threshold: float, keep_pairs: bool
) -> tuple[Totals, list[PairResult]]:
    results = comparison.judged(start, start + _PAIRS_AT_ONCE, score_threshold)
    if not keep_pairs:
        return total(results), []
    kept = list(results)
    return total(kept), kept


def read_comparison(
    pred_file: str | Path,
    gt_files: Sequence[str | Path],
    iou_type: IouType = "segm",
    *,
    score_threshold: float = SCORE_THRESHOLD,
    workers: int = 1,
) -> Comparison:
    """Read the files and choose the pairs; see :func:`evaluate_files`."""
    if iou_type not in IOU_TYPES:
        raise DataError(f"iou_type is {iou_type!r}; expected one of {', '.join(IOU_TYPES)}")
    if not gt_files:
        raise DataError("at least one ground truth file is needed")
    readers = [partial(read_predictions_table, pred_file, iou_type, score_threshold=score_threshold)]
    readers += [partial(read_ground_truth, path, iou_type) for path in gt_files]
    predictions, *annotators = ordered_map(_call, readers, workers=workers)
    pair_ids = evaluated_pairs(annotators)
    _require_listed(pair_ids, annotators[1:], predictions)
    _draw(predictions.instances, pair_ids, annotators[0])
    predictions = replace(predictions, instances=predictions.instances.by_pair())
    annotators = [replace(truth, objects=truth.objects.by_pair()) for truth in annotators]
    accepted = [np.isin(predictions.instances.category_ids, truth.category_ids) for truth in annotators]
    return Comparison(
        iou_type=iou_type,
        pair_ids=pair_ids,
        predictions=predictions,
        annotators=tuple(annotators),
        accepted=None if all(mask.all() for mask in accepted) else tuple(accepted),
    )


def _call(reader: Callable[[], Any]) -> Any:
    return reader()


def evaluated_pairs(annotators: Sequence[GroundTruth]) -> np.ndarray:
    """Ids of the pairs that no annotator marked as not exhaustive, in the order of the first one's file.

    Raises:
        DataError: there are none.
    """
    pair_ids = annotators[0].exhaustive_pairs()
    for truth in annotators[1:]:
        pair_ids = pair_ids[~np.isin(pair_ids, truth.other_pairs())]
    if not len(pair_ids):
        names = ", ".join(truth.path for truth in annotators)
        raise DataError(
            f"{names}: no pair has is_instance_exhaustive = 1 in every file, so there is nothing to evaluate"
        )
    return pair_ids


def _require_listed(pair_ids: np.ndarray, others: Sequence[GroundTruth], predictions: Predictions) -> None:
    """Every annotator must list the pairs that have predictions; one that lacks another pair saw nothing there."""
    for truth in others:
        missing = pair_ids[~np.isin(pair_ids, truth.pair_ids)]
        predicted = missing[np.isin(missing, predictions.pair_ids)]
        if len(predicted):
            raise DataError(
                f"{truth.path}: images lacks these pairs, which have predictions: {listed(predicted.tolist())}; "
                "the files of the annotators must list the same pairs"
            )
        if len(missing):
            _log.warning(
                "%s: images lacks these pairs; they count as pairs without objects for this annotator: %s",
                truth.path,
                listed(missing.tolist()),
            )


def _draw(instances: InstanceTable, pair_ids: np.ndarray, truth: GroundTruth) -> None:
    """Draw predictions given as boxes or polygons at the sizes that the ground truth states."""
    evaluated = instances.undrawn_pairs() & set(pair_ids.tolist()) if instances.undrawn else set()
    sizes = truth.sizes_of(evaluated)
    if evaluated - sizes.keys():
        raise DataError(
            f"{truth.path}: images gives no height and width of these pairs, whose predictions are polygons or boxes: "
            f"{listed(sorted(evaluated - sizes.keys()))}"
        )
    instances.draw(sizes)
