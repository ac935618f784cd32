"""The training of the tracker by its command: from a detector, to a file that tracks, through interruptions."""

import json

import pytest
import torch

from sam3.config import tiny
from sam3.data.clips import PromptChances
from sam3.demo.video_frames import write_frame_dataset
from sam3.demo.video_world import CROSSING, write_video_world
from sam3.demo.world import World
from sam3.errors import CheckpointError, ConfigError
from sam3.io.checkpoint import read_checkpoint, save_weights
from sam3.io.model_card import ModelCard
from sam3.model.vision.trunk_cache import TrunkCache
from sam3.model_builder import build_sam3_image_model, build_sam3_video_model, build_sam3_video_predictor
from sam3.train.checkpointing import LAST
from sam3.train.config_loading import load_config
from sam3.train.parts import build_part
from sam3.train.tracker.model import TrackerInTraining, build_tracker_training_model
from sam3.train.train import main
from tests.train.micro import assert_equal_weights, weights
from tests.train.tracker.small import OVERRIDES, SIDE

NECK = "detector.backbone.vision_backbone.sam2_convs."


def overrides(folder, out, *extra):
    model = json.dumps({part: values for part, values in OVERRIDES.items()}).replace('"', "")
    return [
        "experiment=tiny_tracker",
        f"paths.dataset_root={folder}",
        f"paths.experiment_log_dir={out}",
        f"paths.checkpoint_path={folder / 'detector.pt'}",
        f"scratch.resolution={SIDE}",
        f"model.overrides={model}",
        "data.train.dataset.sources.videos.num_frames=3",
        "scratch.train_batch_size=2",
        "scratch.max_epochs=2",
        f"model.tune.learn=['{NECK}*']",
        "logging.tensorboard.enabled=false",
        "trainer.accelerator=cpu",
        *extra,
    ]


def train(folder, out, *extra):
    main(["-c", "train_config_tracker", *overrides(folder, out, *extra)])
    return out / "checkpoints" / LAST


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Clips, stills and a detector with random weights."""
    folder = tmp_path_factory.mktemp("data")
    truth = write_video_world(folder, World(), num_videos=5, num_frames=5, kinds=(CROSSING,))
    write_frame_dataset(truth, folder / "stills", every=3, val_every=100)
    torch.manual_seed(5)
    config = load_config("train_config_tracker", overrides(folder, folder / "none")).run.model
    shape = tiny().from_dict(_merged(tiny().to_dict(), config.overrides))
    detector = build_sam3_image_model(load_from_HF=False, device="cpu", config=shape)
    save_weights(folder / "detector.pt", detector.state_dict(), ModelCard(model_config=detector.config.to_dict()))
    return folder


def _merged(base, changes):
    return {
        k: _merged(v, changes[k]) if isinstance(v, dict) and k in changes else changes.get(k, v)
        for k, v in base.items()
    }


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return train(data, tmp_path_factory.mktemp("run"))


def test_the_tracker_and_its_pyramid_learn_and_the_detector_stays(data, trained):
    before, after = read_checkpoint(data / "detector.pt").state_dict, weights(trained)
    for name, tensor in before.items():
        assert torch.equal(after[f"detector.{name}"], tensor), name
    learnt = after[f"{NECK}2.conv_1x1.weight"]
    assert not torch.equal(learnt, before["backbone.vision_backbone.convs.2.conv_1x1.weight"])
    assert any(name.startswith("tracker.") for name in after)
    log = (trained.parents[1] / "logs" / "log.txt").read_text()
    assert f"use it: sam3 track VIDEOS --checkpoint {trained}" in log


def test_the_result_drops_into_the_video_model_by_one_argument(data, trained, tmp_path):
    predictor = build_sam3_video_predictor(trained, device="cpu")
    clip = data / "clip_0000"
    assert len(list(predictor.track(clip, ["red circle"]))) == 5
    detector = build_sam3_image_model(data / "detector.pt", device="cpu")
    torch.nn.init.constant_(detector.transformer.decoder.bbox_embed.layers[-1].bias, 0.5)  # another fine-tuning
    save_weights(tmp_path / "other.pt", detector.state_dict(), ModelCard(model_config=detector.config.to_dict()))
    with pytest.raises(CheckpointError, match="detector alone.*tracker_checkpoint_path"):
        build_sam3_video_model(tmp_path / "other.pt", device="cpu")
    joined = build_sam3_video_model(tmp_path / "other.pt", device="cpu", tracker_checkpoint_path=trained).state_dict()
    assert joined["detector.transformer.decoder.bbox_embed.layers.2.bias"].eq(0.5).all()
    for name, tensor in weights(trained).items():
        if name.startswith(("tracker.", NECK)):
            assert torch.equal(joined[name], tensor), name
    with pytest.raises(CheckpointError, match="holds no SAM 3 tracker"):
        build_sam3_video_model(trained, device="cpu", tracker_checkpoint_path=tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="needs the checkpoint_path"):
        build_sam3_video_model(load_from_HF=False, device="cpu", tracker_checkpoint_path=trained)


def test_an_interrupted_training_ends_with_the_same_weights(data, trained, tmp_path):
    stop = "trainer.callbacks=[{_target_: tests.train.faults.Stop, at: step, number: 2}]"
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path, "checkpoint.save_every_steps=1", stop)
    assert torch.load(tmp_path / "checkpoints" / LAST, weights_only=True)["progress"]["steps"] < 4
    assert_equal_weights(weights(train(data, tmp_path)), weights(trained))


def test_stills_and_a_frozen_pyramid_are_a_matter_of_settings(data, tmp_path):
    stills = [
        "data=clips_and_stills",
        f"paths.stills_root={data / 'stills' / 'train'}",
        "data.train.dataset.sources.stills.num_frames=3",
        "model.tune.learn=[]",
        "scratch.max_epochs=1",
    ]
    after = weights(train(data, tmp_path, *stills))
    before = read_checkpoint(data / "detector.pt").state_dict
    name = "2.conv_1x1.weight"
    assert torch.equal(after[NECK + name], before[f"backbone.vision_backbone.convs.{name}"])  # a copy of the detector's
    assert "stills" in (tmp_path / "config.yaml").read_text()


def test_settings_arrive(data):
    run = load_config(
        "train_config_tracker",
        overrides(
            data,
            data / "none",
            "loss.clip.forget=0.5",
            "loss.clip.weights.loss_iou=7",
            "data.train.dataset.sources.videos.prompts.box=1",
            "data.train.dataset.sources.videos.max_objects=1",
        ),
    ).run
    loss = build_part(run.loss.clip)
    assert (loss.forget, loss.weights["loss_iou"]) == (0.5, 7)
    videos = build_part(run.data.train.dataset).sources[0]
    assert videos.prompts == PromptChances(mask=0.9, box=1, click=0.05)
    assert all(len(videos.sample(index, 0).masks) == 1 for index in range(len(videos)))


def test_in_training_the_detector_stays_in_evaluation_mode_and_frames_are_encoded_once(data):
    model = build_tracker_training_model(data / "detector.pt", device="cpu")
    assert isinstance(model, TrackerInTraining)
    assert model.train().tracker.training
    assert not any(module.training for module in model.detector.modules())
    for parameter in model.detector.parameters():
        parameter.requires_grad_(False)
    vision = model.detector.backbone.vision_backbone
    assert isinstance(vision.trunk_cache, TrunkCache)
    image = torch.zeros(1, 3, SIDE, SIDE)
    first = vision.encode_second(image)
    size = vision.trunk_cache.store.size
    again = vision.encode_second(torch.cat([image, image]))
    assert vision.trunk_cache.store.size == size > 0
    assert torch.equal(again[2][0], first[2][0])
