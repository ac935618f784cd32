"""What is found before the first step, each with its own words."""

import json
import shutil
from collections import namedtuple

import pytest

from sam3.errors import ConfigError, DataError
from sam3.train import startup_checks
from sam3.train.assembly import lay_foundation
from sam3.train.config_loading import load_config
from tests.train.micro import SINGLE, overrides


def foundation(data, out, *extra, **options):
    return lay_foundation(load_config(SINGLE, overrides(data, out, *extra, **options)).run)


@pytest.fixture
def copied(one_class, tmp_path):
    """A data set to break."""
    return shutil.copytree(one_class, tmp_path / "data")


def test_batch_sizes_and_workers_reach_the_loaders(one_class, tmp_path):
    keys = ["scratch.train_batch_size=4", "scratch.val_batch_size=3", "scratch.num_train_workers=1"]
    laid = foundation(one_class, tmp_path, *keys)
    assert (laid.train_loader.batch_size, laid.val_loader.batch_size) == (4, 3)
    assert (len(laid.train_loader), len(laid.val_loader)) == (1, 1)  # drop_last in training only
    assert laid.train_loader._batches.num_workers == 1


def test_the_mode_decides_what_is_read(copied, tmp_path):
    shutil.rmtree(copied / "val")
    laid = foundation(copied, tmp_path, "trainer.mode=train_only")
    assert (laid.datasets.val, laid.val_loader) == (None, None)
    with pytest.raises(ConfigError, match=r"data.val.dataset.ann_file: the file .*val/annotations.json does not exist"):
        foundation(copied, tmp_path)
    with pytest.raises(ConfigError, match=r"data.val.dataset.ann_file"):
        foundation(copied, tmp_path, "trainer.mode=val")


def test_the_placeholder_of_the_shipped_file_is_answered(tmp_path):
    with pytest.raises(
        ConfigError, match="paths.dataset_root: there is no folder /path/to/coco_dataset.*labelme_to_coco"
    ):
        foundation("/path/to/coco_dataset", tmp_path)


def test_class_name_must_be_the_one_of_the_annotations(one_class, tmp_path):
    with pytest.raises(DataError, match="dataset.class_name is 'bolt', .* is 'red circle'"):
        foundation(one_class, tmp_path, class_name="bolt")
    laid = foundation(one_class, tmp_path, "dataset.allow_name_mismatch=true", class_name="bolt")
    assert {query.phrase for record in laid.datasets.train.records for query in record.queries} == {"bolt"}
    named = foundation(one_class, tmp_path, class_name=None)
    assert {query.phrase for record in named.datasets.val.records for query in record.queries} == {"red circle"}


def test_one_class_name_for_several_classes_is_refused(three_classes, tmp_path):
    with pytest.raises(DataError, match="3 categories .*Set dataset.class_name to null"):
        foundation(three_classes, tmp_path)


def test_negatives_can_be_left_out(one_class, tmp_path):
    assert foundation(one_class, tmp_path).datasets.train.num_queries == 6
    without = foundation(one_class, tmp_path, "scratch.include_negatives=false").datasets
    assert (without.train.num_queries, without.val.num_queries) == (5, 3)  # validation keeps them


def test_train_and_val_must_agree_on_categories(copied, tmp_path):
    path = copied / "val/annotations.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 7, "name": "nut"})
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="train and val differ in their categories: .*1: red circle.*7: nut"):
        foundation(copied, tmp_path, "data=coco_multi_class", class_name=None)


def test_an_output_folder_that_cannot_be_written(one_class, tmp_path):
    (tmp_path / "file").write_text("in the way")
    config = load_config(SINGLE, overrides(one_class, tmp_path / "file" / "run")).run
    with pytest.raises(ConfigError, match="paths.experiment_log_dir: .* cannot be written"):
        startup_checks.check_output_folder(config)


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(startup_checks.shutil, "disk_usage", lambda _: usage(10, 5, 2**30))
    startup_checks.check_free_disk(tmp_path / "new" / "run", 2**30)
    with pytest.raises(ConfigError, match="1.0 GiB are free .* take about 2.0 GiB"):
        startup_checks.check_free_disk(tmp_path / "new" / "run", 2**31)
    (tmp_path / "checkpoints").mkdir()
    with open(tmp_path / "checkpoints/last.pt", "wb") as file:
        file.truncate(2**30)  # replaced, not added to
    startup_checks.check_free_disk(tmp_path, 2**31)


def test_a_schedule_longer_than_the_run_is_worth_a_warning(one_class, tmp_path, sam3_log):
    foundation(one_class, tmp_path, "scratch.max_epochs=4", "scratch.scheduler_warmup=13")
    assert "12 steps, fewer than the warm-up and cool-down of optim.options.lr (all: 13)" in sam3_log.text


def test_an_unknown_device_is_named(one_class, tmp_path):
    with pytest.raises(ConfigError, match="trainer.accelerator: device 'cpus' .*; use auto, cpu, cuda"):
        foundation(one_class, tmp_path, "trainer.accelerator=cpus")


def test_weights_to_start_from_must_exist(one_class, tmp_path):
    with pytest.raises(ConfigError, match="paths.checkpoint_path: there is no file .*absent.pt; name a weight file"):
        foundation(one_class, tmp_path, f"paths.checkpoint_path={tmp_path / 'absent.pt'}")
