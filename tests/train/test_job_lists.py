"""The configurations of collections of data sets: composed, and one run of each."""

import json
import shutil

import pytest

from sam3.errors import ConfigError
from sam3.eval.job_results import read_jobs
from sam3.train.config_loading import conf_folder, load_config
from sam3.train.train import main
from tests.train.micro import FAST, MODEL, MULTI


@pytest.fixture(scope="module")
def collection(tmp_path_factory, three_classes):
    """Three data sets as Roboflow exports them and as ODinW lays them out."""
    root = tmp_path_factory.mktemp("collection")
    for name in ("b-bolts", "a nuts", "c_cats"):
        for split, source in (("train", "train"), ("valid", "val"), ("test", "val")):
            folder = root / name / split
            shutil.copytree(three_classes / source / "images", folder)
            annotations = three_classes / source / "annotations.json"
            for file in ("_annotations.coco.json", "annotations_without_background.json"):
                shutil.copy(annotations, folder / file)
            for seed in (300, 30, 3):
                shutil.copy(annotations, folder / f"fewshot_train_shot10_seed{seed}.json")
    (root / ".cache").mkdir()
    return root


def roboflow(root, *extra):
    return load_config(MULTI, ["experiment=roboflow_100_images", f"paths.roboflow_vl_100_root='{root}'", *extra]).run


def odinw(root, *extra):
    return load_config(MULTI, ["experiment=odinw_10shot", f"paths.odinw_root='{root}'", *extra]).run


def test_the_index_takes_the_folders_in_alphabetical_order(collection):
    run = roboflow(collection, "data.index=1", "paths.experiment_log_dir=/runs")
    assert run.data.name == "b-bolts"
    assert run.data.train.dataset["ann_file"] == f"{collection}/b-bolts/train/_annotations.coco.json"
    assert run.data.val.dataset["img_folder"] == f"{collection}/b-bolts/valid"
    assert run.launcher.experiment_log_dir == "/runs/b-bolts"
    assert run.trainer.checkpoint.save_dir == "/runs/b-bolts/checkpoints"
    assert run.data.train.dataset["limit_ids"] == 100
    assert (run.model.enable_segmentation, run.trainer.max_epochs, "masks" in run.loss.terms) == (False, 20, False)
    assert roboflow(collection).data.name == "a nuts"
    assert roboflow(collection, "data.eval_split=test").data.val.dataset["img_folder"].endswith("/test")


def test_an_index_or_a_folder_that_does_not_exist_is_named(collection):
    with pytest.raises(ConfigError, match="holds 3 data sets"):
        roboflow(collection, "data.index=3")
    with pytest.raises(ConfigError, match="does not exist"):
        roboflow(collection / "nowhere")


def test_ten_shots_of_three_seeds(collection):
    run = odinw(collection, "data.index=2", "data.seed=30")
    assert run.data.train.dataset["ann_file"].endswith("c_cats/train/fewshot_train_shot10_seed30.json")
    assert run.data.val.dataset["ann_file"].endswith("c_cats/valid/annotations_without_background.json")
    assert run.launcher.experiment_log_dir == "/path/to/experiments/c_cats_seed30"  # what the file says for paths
    assert run.loss.terms["classification"]["pos_weight"] == 5.0
    assert run.data.prompts is None
    asked = odinw(collection, "data.index=2", "data.prompts_of={c_cats: {red circle: ball}}")
    assert asked.data.prompts == asked.data.train.dataset["prompts"] == {"red circle": "ball"}


@pytest.mark.parametrize(
    ("name", "negatives", "visual", "keeps_text"),
    [("", True, None, None), ("_positive", False, None, None), ("_visual_only", False, 1.0, None),
     ("_text_and_visual", False, 1.0, True)],
)  # fmt: skip
def test_four_ways_of_asking(name, negatives, visual, keeps_text, collection):
    run = load_config(MULTI, [f"data=odinw13{name}", f"paths.odinw_root='{collection}'", "trainer=eval_only"]).run
    dataset = run.data.val.dataset
    assert dataset["include_negatives"] is negatives
    assert dataset["transforms"].get("visual_probability") == visual
    assert dataset["transforms"].get("visual_keeps_text") == keeps_text


@pytest.mark.parametrize("name", ["roboflow_100_images", "odinw_10shot"])
def test_experiments_are_thin(name):
    assert len((conf_folder() / "experiment" / f"{name}.yaml").read_text().splitlines()) <= 40


def test_a_run_of_a_collection_trains_and_its_result_is_collected(collection, tmp_path):
    settings = ["experiment=roboflow_100_images", f"paths.roboflow_vl_100_root='{collection}'"]
    settings += [*MODEL, *FAST, f"paths.experiment_log_dir='{tmp_path}'", "scratch.max_epochs=1", "data.index=2"]
    main(["-c", MULTI, *settings])
    (result,) = read_jobs(tmp_path)
    assert (result.name, result.epoch, result.counts) == ("c_cats", 1, True)
    stats = json.loads((tmp_path / "c_cats" / "logs" / "val_stats.json").read_text().splitlines()[0])
    assert not any("segm" in key for key in stats)
