"""One run through the command, and what it leaves behind."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from sam3.eval.coco_ap import coco_ap
from sam3.io.checkpoint import read_checkpoint
from sam3.model_builder import build_sam3_image_model
from tests.train.micro import MULTI, PHRASE, train, weights

SETTINGS = [
    "scratch.max_epochs=3",
    "scratch.val_batch_size=2",
    "checkpoint.save_epochs=[2,9]",
    "checkpoint.save_model_only=true",
    "checkpoint.save_fp16=true",
    "checkpoint.score_threshold=0.25",
    "logging.tensorboard.enabled=true",
    "logging.tensorboard.prediction_images=2",
    "logging.report={_target_: sam3.report.callback.ReportCallback, folder: '${launcher.experiment_log_dir}'}",
    "logging.log_scalar_frequency=4",
    "paths.bpe_path=assets/bpe_simple_vocab_16e6.txt.gz",
]


@pytest.fixture(scope="module")
def run(one_class, tmp_path_factory):
    return train(one_class, tmp_path_factory.mktemp("run ü"), *SETTINGS)


def test_the_output_folder_is_as_documented(run):
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("tensorboard/events")}
    assert len(events) == 1
    assert files - events == {
        "config.yaml",
        "config_resolved.yaml",
        "machine.json",
        "report.html",
        "logs/log.txt",
        "logs/train_stats.json",
        "logs/val_stats.json",
        "logs/best_stats.json",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "checkpoints/checkpoint_2.pt",
        "dumps/val/coco_predictions_bbox.json",
        "dumps/val/coco_predictions_segm.json",
        "dumps/val/concept_pairs.json",
        "dumps/val/concept_predictions_segm.json",
        "dumps/val/confusion_matrix.json",
        "dumps/val/drift_start.json",
    }


def test_the_written_configuration_holds_the_command_line(run):
    assert OmegaConf.load(run / "config.yaml").scratch.max_epochs == 3
    resolved = OmegaConf.load(run / "config_resolved.yaml")
    assert resolved.trainer.max_epochs == 3
    assert resolved.data.prompts == {"*": PHRASE}


def test_stats_have_a_line_an_epoch(run):
    lines = [json.loads(line) for line in (run / "logs/train_stats.json").read_text().splitlines()]
    assert [line["Trainer/epoch"] for line in lines] == [0, 1, 2]
    assert [line["Trainer/steps_train"] for line in lines] == [3, 6, 9]
    assert [line["Trainer/where"] for line in lines] == pytest.approx([1 / 3, 2 / 3, 1])
    expected = {
        "loss",
        "loss_ce",
        "loss_bbox_o2m",
        "presence_loss_aux_0",
        "loss_mask",
        "loss_dice_o2m",
        "ce_f1_aux_0_o2m",
    }
    assert {f"Losses/train_all_{name}" for name in expected} <= lines[0].keys()


def test_validation_numbers_are_those_of_the_written_predictions(run, one_class):
    last = json.loads((run / "logs/val_stats.json").read_text().splitlines()[-1])
    assert last["Trainer/steps_val"] == 6  # two batches of at most two images, three times
    for meter, kind in (("detection", "bbox"), ("segmentation", "segm")):
        again = coco_ap(one_class / "val/annotations.json", run / f"dumps/val/coco_predictions_{kind}.json", kind)
        for name, value in again.to_dict().items():
            assert last[f"Meters_val/val_coco/{meter}/{name}"] == pytest.approx(value, abs=1e-12)
    assert "Losses/val_coco_loss" in last


def test_the_rolling_file_is_complete_and_full_precision(run):
    last = torch.load(run / "checkpoints/last.pt", weights_only=True)
    assert last["progress"]["epoch"] == 3
    assert last["progress"]["steps"] == 9
    assert last["optimizer"]["state"]
    assert {tensor.dtype for tensor in last["model"].values()} == {torch.float32}


def test_exports_are_small_half_and_know_how_to_be_used(run):
    export = torch.load(run / "checkpoints/checkpoint_2.pt", weights_only=True)
    assert set(export) == {"model", "card"}
    assert {tensor.dtype for tensor in export["model"].values()} == {torch.float16}
    card = read_checkpoint(run / "checkpoints/best.pt").card
    assert (card.class_names, card.prompts) == ([PHRASE], [PHRASE])
    assert (card.resolution, card.score_threshold, card.mean) == (56, 0.25, (0.5, 0.5, 0.5))
    assert set(card.metric) == {"cgF1_eval_segm_cgF1"}
    model = build_sam3_image_model(run / "checkpoints/best.pt", device="cpu")
    assert model.config.detector.num_queries == 4
    assert model.config.vision.image_size == 56


def test_curves_have_the_names_of_the_specification(run, shared):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    steps = {tag: [event.step for event in events.Tensors(tag)] for tag in events.Tags()["tensors"]}
    assert steps["Step_Losses/Losses/train_all_loss"] == [0, 4, 8]
    assert steps["Losses/train_all_loss"] == steps["Losses/val_coco_loss"] == [0, 1, 2]
    assert steps["Optim/default/lr"] == steps["Optim/default/weight_decay"] == [0, 4, 8]
    assert [event.step for event in events.Images("Predictions/1")] == [0, 1, 2]
    assert steps["PR/all classes"] == [0, 1, 2]
    assert events.SummaryMetadata("PR/all classes").plugin_data.plugin_name == "pr_curves"

    # The reference logs two auxiliary layers, and presence of one-to-many queries, which have none here.
    recorded = json.loads((shared / "golden/training/trainer_artifacts.json").read_text())["tensorboard_tags_and_steps"]
    same = [
        tag for tag in recorded if not any(word in tag for word in ("aux", "presence", "default", "Synced", "<group>"))
    ]
    renamed = [tag.replace("Meters_train", "Meters_val").replace("val_roboflow100", "val_coco") for tag in same]
    missing = [tag for tag in renamed if tag not in steps]
    assert [tag for tag in missing if "/val" not in tag and "core_loss" not in tag] == []
    assert [tag for tag in missing if tag.startswith("Meters")] == []


def test_boxes_only(one_class, tmp_path):
    out = train(one_class, tmp_path, "scratch.max_epochs=1", "scratch.enable_segmentation=false")
    assert not (out / "dumps/val/coco_predictions_segm.json").exists()
    assert not any(name.startswith("segmentation_head") for name in weights(out / "checkpoints/last.pt"))
    assert set(read_checkpoint(out / "checkpoints/best.pt").card.metric) == {"cgF1_eval_bbox_cgF1"}


def test_several_classes_are_judged_one_by_one(three_classes, tmp_path):
    out = train(three_classes, tmp_path, "scratch.max_epochs=1", config=MULTI, class_name=None)
    line = json.loads((out / "logs/val_stats.json").read_text())
    names = {key.rsplit("/", 1)[-1] for key in line if "segmentation/per_class_AP" in key}
    assert names == {"red circle", "red square", "red triangle"}
    assert read_checkpoint(out / "checkpoints/best.pt").card.prompts == ["red circle", "red square", "red triangle"]


def test_validation_only(run, one_class, tmp_path):
    resume = f"checkpoint.resume_from='{run / 'checkpoints/best.pt'}'"
    out = train(one_class, tmp_path, "trainer=eval_only", resume)
    assert not (out / "checkpoints").exists()
    again = (out / "dumps/val/coco_predictions_bbox.json").read_text()
    assert len(json.loads(again)) == 3 * 4  # images, queries
    assert len((out / "logs/val_stats.json").read_text().splitlines()) == 1


def test_training_without_validation_starts_from_given_weights(run, one_class, tmp_path, sam3_log):
    start = f"checkpoint.resume_from='{run / 'checkpoints/checkpoint_2.pt'}'"
    out = train(one_class, tmp_path, "trainer.mode=train_only", "scratch.max_epochs=1", start, "checkpoint.save_freq=1")
    assert {path.name for path in (out / "checkpoints").iterdir()} == {"last.pt", "checkpoint_1.pt"}
    assert not (out / "dumps").exists()
    assert "holds weights only: training starts at epoch 0" in sam3_log.text
    complete = torch.load(out / "checkpoints/checkpoint_1.pt", weights_only=True)
    assert complete["optimizer"]["state"]  # save_model_only is off here


def test_mixed_precision_on_request(one_class, tmp_path):
    out = train(one_class, tmp_path, "scratch.max_epochs=1", "optim.amp.enabled=true")
    assert all(tensor.isfinite().all() for tensor in weights(out / "checkpoints/last.pt").values())


def test_smoke_experiment_runs(one_class, tmp_path):
    out = train(one_class, tmp_path, "experiment=smoke", "scratch.resolution=56")
    assert torch.load(out / "checkpoints/last.pt", weights_only=True)["progress"]["epoch"] == 1
