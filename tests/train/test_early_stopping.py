"""Early stopping: what counts as progress, and that a stopped run stays stopped."""

import pytest

from sam3.errors import ConfigError
from sam3.train.config_loading import load_config
from sam3.train.early_stopping import EarlyStopping
from sam3.train.progress import Progress
from sam3.train.schema import EarlyStoppingConfig
from tests.train.micro import SINGLE, make_trainer, overrides, train


def stops_at(metrics, settings):
    stopping = EarlyStopping(settings, Progress())
    for number, metric in enumerate(metrics, start=1):
        stopping.update(metric)
        if stopping.is_due:
            return number
    return None


@pytest.mark.parametrize(
    ("metrics", "patience", "min_delta", "expected"),
    [
        ([0.1, 0.2, 0.2, 0.2], 2, 0.0, 4),
        ([0.1, 0.2, 0.15, 0.21, 0.2, 0.2], 2, 0.0, 6),  # 0.21 is progress
        ([0.1, 0.2, 0.15, 0.21, 0.2, 0.2], 2, 0.02, 4),  # and here it is too little
        ([0.10, 0.115, 0.13, 0.145], 2, 0.02, None),  # slow growth adds up: measured from the last progress
        ([-1.0, -1.0, -1.0], 3, 0.0, None),
        ([-1.0, -1.0, -1.0, -1.0], 3, 0.0, 4),
    ],
)
def test_when_it_stops(metrics, patience, min_delta, expected):
    assert stops_at(metrics, EarlyStoppingConfig(patience=patience, min_delta=min_delta)) == expected


def test_without_settings_it_never_stops():
    assert stops_at([0.5] * 100, None) is None


def test_a_run_ends_early_and_stays_ended(one_class, tmp_path, sam3_log):
    settings = ["scratch.max_epochs=9", "trainer.early_stopping={patience: 2, min_delta: 2.0}"]  # no AP grows by 2
    trainer = make_trainer(one_class, tmp_path, *settings)
    trainer.run()
    assert trainer.progress.epoch == 3
    assert "no growth of cgF1_eval_segm_cgF1 above 2 in 2 validations: training ends after epoch 3" in sam3_log.text
    again = make_trainer(one_class, tmp_path, *settings)
    again.run()
    assert again.progress.epoch == 3
    train(one_class, tmp_path, "scratch.max_epochs=4")  # the option taken away, it goes on
    assert len((tmp_path / "logs/train_stats.json").read_text().splitlines()) == 4


def test_it_needs_validations(one_class, tmp_path):
    settings = ["trainer.mode=train_only", "trainer.early_stopping={patience: 2}"]
    with pytest.raises(ConfigError, match="trainer.early_stopping needs validations"):
        load_config(SINGLE, overrides(one_class, tmp_path, *settings))
    with pytest.raises(ConfigError, match="trainer.early_stopping.patience is 0"):
        load_config(SINGLE, overrides(one_class, tmp_path, "trainer.early_stopping={patience: 0}"))
