"""Training from cached features of the frozen image trunk."""

import logging

import pytest
import torch

from sam3.errors import ConfigError
from sam3.train.checkpointing import LAST
from tests.train.micro import assert_equal_weights, make_trainer, train, weights

RUN = ["tune=decoder", "scratch.max_epochs=3", "scratch.augmentation_variants=2"]


def trained(data, out, *extra):
    return weights(train(data, out, *RUN, *extra) / "checkpoints" / LAST)


def test_training_from_the_cache_is_training_without_it(one_class, tmp_path):
    cache = tmp_path / "features"
    plain = trained(one_class, tmp_path / "plain")
    filling = trained(one_class, tmp_path / "filling", f"model.feature_cache={cache}")
    files = sorted(cache.rglob("*.safetensors"))
    assert len(files) == 2 * 6 + 3  # two versions of each training image; validation has one
    before = [file.stat().st_mtime_ns for file in files]
    cached = trained(one_class, tmp_path / "cached", f"model.feature_cache={cache}", "scratch.num_train_workers=1")
    assert [file.stat().st_mtime_ns for file in sorted(cache.rglob("*.safetensors"))] == before
    assert_equal_weights(plain, filling)
    assert_equal_weights(plain, cached)


def test_a_cached_step_runs_no_block_of_the_trunk(one_class, tmp_path):
    trainer = make_trainer(one_class, tmp_path, *RUN, f"model.feature_cache={tmp_path / 'features'}")
    batch = next(trainer.train_loader.iterate())
    calls = []
    for block in trainer.model.backbone.vision_backbone.trunk.blocks:
        block.register_forward_hook(lambda *_: calls.append(1))
    first = trainer.train_step(batch)
    assert calls
    calls.clear()
    assert not trainer.train_step(batch).skipped
    assert calls == []
    assert torch.isfinite(first.losses["loss"])


def test_versions_come_again_after_as_many_epochs(one_class, tmp_path):
    dataset = make_trainer(one_class, tmp_path, "scratch.augmentation_variants=2").train_loader.dataset
    images = [dataset.sample(0, epoch).image for epoch in range(4)]
    assert torch.equal(images[0], images[2])
    assert torch.equal(images[1], images[3])
    assert not torch.equal(images[0], images[1])


def test_a_cache_that_could_never_help_is_refused(one_class, tmp_path, caplog):
    folder = f"model.feature_cache={tmp_path / 'features'}"
    with pytest.raises(ConfigError, match="scratch.augmentation_variants is null: every epoch makes new"):
        make_trainer(one_class, tmp_path, "tune=decoder", folder)
    for learning in ("tune=full", "tune=lora"):
        with pytest.raises(ConfigError, match="the trunk learns here.*tune=decoder"):
            make_trainer(one_class, tmp_path, learning, "scratch.augmentation_variants=1", folder)
    caplog.set_level(logging.INFO, logger="sam3")
    make_trainer(one_class, tmp_path, *RUN, folder, "model.feature_cache_gib=1e-6")
    assert "6 images x 2 versions need 0.0 GiB, of model.feature_cache_gib 1e-06" in caplog.text
