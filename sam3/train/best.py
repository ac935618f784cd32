"""Which validation is the best of a run: the one with the highest metric, as long as the vocabulary stays open."""

import logging

from sam3.train.progress import Progress
from sam3.train.validation import ValidationResult

_log = logging.getLogger(__name__)


def take_over(result: ValidationResult, progress: Progress, *, drift_limit: float | None, may_be_best: bool) -> bool:
    """Enter a validation into ``progress``; whether it is the best so far.

    A validation within the drift limit beats every one beyond it; among the others the metric decides, and AP between
    equal ones: cgF1 is 0 until the first detections are confident.

    Args:
        drift_limit: largest drift from the starting weights; ``None`` = any. Without a known drift every
            validation is within.
        may_be_best: false where the run does not train.
    """
    is_within = drift_limit is None or result.drift is None or result.drift.value <= drift_limit
    if progress.metric_name not in (None, result.metric_name) and progress.best_metric is not None:
        _log.warning(
            "best.pt was chosen by %s, from now on %s counts: the next validation is the best so far",
            progress.metric_name,
            result.metric_name,
        )
        progress.best_metric = progress.growth_reference = None
    progress.metric_name, progress.last_metric, progress.last_ap = result.metric_name, result.metric, result.ap
    progress.last_metric_epoch = progress.epoch
    is_best = may_be_best and _is_better(result, is_within, progress)
    if is_best:
        progress.best_metric, progress.best_epoch = result.metric, progress.epoch
        progress.best_ap, progress.best_is_within_drift = result.ap, is_within
    if not is_within:
        _log.warning(
            "drift %.3f exceeds trainer.drift_limit %g: the vocabulary is closing%s",
            result.drift.value,
            drift_limit,
            "; best.pt is kept for want of a better one" if is_best else ", so this is not the best whatever it scores",
        )
    return is_best


def _is_better(result: ValidationResult, is_within: bool, progress: Progress) -> bool:
    if progress.best_metric is None:
        return True
    if is_within != progress.best_is_within_drift:
        return is_within
    return (result.metric, result.ap) > (progress.best_metric, progress.best_ap)
