"""The network of a run."""

import shutil

import pytest

from sam3.config import tiny
from sam3.errors import ConfigError, UserError
from sam3.train.config_loading import conf_folder, load_config
from sam3.train.model_setup import build_model, model_config
from sam3.train.schema import ModelSettings
from tests.train.micro import SINGLE, overrides


def settings(*extra):
    return load_config(SINGLE, overrides("/data", "/out", *extra)).run.model


def test_overrides_change_the_preset_and_nothing_else():
    config = model_config(ModelSettings(preset="tiny", overrides={"detector": {"num_queries": 5}}, resolution=112))
    assert config.detector.num_queries == 5
    assert config.detector.d_model == tiny().detector.d_model
    assert config.vision.embed_dim == 64
    with pytest.raises(ConfigError, match="unknown key model.detector.queries"):
        model_config(ModelSettings(preset="tiny", overrides={"detector": {"queries": 5}}, resolution=112))
    with pytest.raises(ConfigError, match="must divide"):
        model_config(ModelSettings(preset="tiny", overrides={"vision": {"embed_dim": 65}}, resolution=112))


def test_resolution_reaches_the_network():
    assert build_model(settings("scratch.resolution=70"), "cpu").config.vision.image_size == 70


def test_the_model_comes_in_training_mode_with_what_is_asked_for():
    model = build_model(settings("scratch.enable_segmentation=false"), "cpu")
    assert model.training
    assert model.segmentation_head is None


def test_the_vocabulary_file_is_the_one_configured(tmp_path, repository):
    own = tmp_path / "词表.txt.gz"
    shutil.copy(next((repository / "sam3/assets").glob("bpe_simple_vocab_16e6.txt.gz")), own)
    model = build_model(settings(f"paths.bpe_path={own}"), "cpu")
    assert str(model.bpe_path) == str(own)
    assert model.tokenizer(["red circle"], 32).shape == (1, 32)
    with pytest.raises((UserError, FileNotFoundError), match="gone.txt.gz"):
        build_model(settings("paths.bpe_path=gone.txt.gz"), "cpu").tokenizer  # noqa: B018


def test_conf_names_only_presets_that_exist():
    for name in ("sam3", "tiny"):
        assert (conf_folder() / "model" / f"{name}.yaml").is_file()
