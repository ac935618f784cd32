"""Which validation is the best."""

from dataclasses import dataclass

import pytest

from sam3.train.best import take_over
from sam3.train.progress import Progress


@dataclass
class Drifted:
    value: float


@dataclass
class Result:
    metric: float
    drift: Drifted | None = None
    ap: float = 0.0
    metric_name: str = "cgF1"


def best_epochs(*results, limit=0.1, progress=None):
    """Epochs that became the best, in order."""
    progress = progress or Progress()
    chosen = []
    for epoch, result in enumerate(results, start=1):
        progress.epoch = epoch
        if take_over(result, progress, drift_limit=limit, may_be_best=True):
            chosen.append(epoch)
        assert progress.last_metric == result.metric
    return chosen


def test_the_highest_metric_wins_and_ap_parts_equal_ones():
    assert best_epochs(Result(0.1), Result(0.3), Result(0.2), Result(0.3)) == [1, 2]
    assert best_epochs(Result(0.0, ap=0.1), Result(0.0, ap=0.4), Result(0.0, ap=0.2)) == [1, 2]


def test_a_validation_beyond_the_drift_limit_does_not_displace_one_within(caplog):
    within, beyond = Drifted(0.1), Drifted(0.11)
    assert best_epochs(Result(0.2, within), Result(0.9, beyond), Result(0.3, within)) == [1, 3]
    assert "drift 0.110 exceeds trainer.drift_limit 0.1" in caplog.text
    assert best_epochs(Result(0.2, within), Result(0.9, beyond), limit=None) == [1, 2]


def test_beyond_the_limit_there_is_still_a_best_until_one_is_within():
    beyond = Drifted(0.5)
    results = [Result(0.4, beyond), Result(0.6, beyond), Result(0.1, Drifted(0.0)), Result(0.7, beyond)]
    assert best_epochs(*results) == [1, 2, 3]


def test_an_unknown_drift_is_within():
    assert best_epochs(Result(0.2), Result(0.3, Drifted(0.9)), Result(0.4)) == [1, 3]


def test_progress_of_older_checkpoints_is_judged_anew(caplog):
    old = {"epoch": 4, "metric_name": "coco_eval_segm_AP", "last_metric": 0.7, "best_metric": 0.7, "best_epoch": 4}
    progress = Progress.from_dict(old)
    assert best_epochs(Result(0.2), Result(0.1), progress=progress) == [1]
    assert (progress.metric_name, progress.best_metric) == ("cgF1", pytest.approx(0.2))
    assert "best.pt was chosen by coco_eval_segm_AP" in caplog.text


def test_validation_alone_chooses_nothing():
    progress = Progress()
    assert not take_over(Result(0.5), progress, drift_limit=None, may_be_best=False)
    assert (progress.last_metric, progress.best_metric) == (0.5, None)
