"""``scratch.train_batch_size=auto``; running out of memory is pretended."""

import pytest
import torch

from sam3.errors import ConfigError
from sam3.train import batch_size
from sam3.train.batch_size import Trial, fits_in_memory, largest_that_fits, with_batch_size
from sam3.train.config_loading import load_config
from tests.train.micro import SINGLE, overrides, train


def auto(data, out, *extra):
    return load_config(SINGLE, overrides(data, out, "scratch.train_batch_size=auto", *extra))


@pytest.mark.parametrize("most", range(12))
@pytest.mark.parametrize("limit", [1, 2, 7, 8, 64])
def test_the_largest_size_is_found_in_few_attempts(most, limit):
    tried = []

    def fits(size):
        tried.append(size)
        return size <= most

    assert largest_that_fits(fits, limit) == min(most, limit)
    assert max(tried) <= limit
    assert len(tried) == len(set(tried))
    assert len(tried) <= 9


def test_out_of_memory_and_too_high_a_peak_both_mean_no():
    def runs_out():
        raise torch.OutOfMemoryError("pretended")

    def broken():
        raise RuntimeError("something else")

    assert not fits_in_memory(runs_out, 100)
    assert not fits_in_memory(lambda: 101, 100)
    assert fits_in_memory(lambda: 100, 100)
    with pytest.raises(RuntimeError, match="something else"):
        fits_in_memory(broken, 100)


def test_without_cuda_there_is_a_stated_default(one_class, tmp_path):
    loaded = with_batch_size(auto(one_class, tmp_path))
    assert loaded.run.scratch.train_batch_size == loaded.run.data.train.batch_size == batch_size.ON_CPU
    assert "auto: 2 images, the default without CUDA (on cpu)" in loaded.notes[-1]
    given = load_config(SINGLE, overrides(one_class, tmp_path, "scratch.train_batch_size=3"))
    assert with_batch_size(given) is given
    with pytest.raises(ConfigError, match="scratch.train_batch_size is 'many'; give a number or auto"):
        load_config(SINGLE, overrides(one_class, tmp_path, "scratch.train_batch_size=many"))


def test_a_run_that_goes_on_keeps_its_batches(one_class, tmp_path):
    train(one_class, tmp_path, "scratch.train_batch_size=3", "scratch.max_epochs=1")
    loaded = with_batch_size(auto(one_class, tmp_path, "scratch.max_epochs=2"))
    assert loaded.run.data.train.batch_size == 3


@pytest.mark.parametrize(("memory", "expected"), [(3.5, 3), (100.0, 6), (0.5, 0)])
def test_a_device_is_tried_with_real_steps(one_class, tmp_path, monkeypatch, memory, expected):
    loaded = auto(one_class, tmp_path)
    steps = []

    def pretend(trial, batch):
        steps.append(len(batch))
        if len(batch) > memory:
            raise torch.OutOfMemoryError("pretended")
        if len(batch) == 1:
            trial.__class__.real_step(trial, batch)

    monkeypatch.setattr(Trial, "real_step", Trial._step, raising=False)
    monkeypatch.setattr(Trial, "_step", pretend)
    monkeypatch.setattr(batch_size, "total_memory", lambda device: 2**30)
    if expected == 0:
        with pytest.raises(ConfigError, match="a step with one image does not fit into 1.0 GiB"):
            batch_size._try_on(torch.device("cpu"), loaded)
        return
    assert batch_size._try_on(torch.device("cpu"), loaded)[0] == expected
    assert steps.count(1) == 2  # the second has the optimizer's moments


def test_trial_steps_begin_with_the_images_that_ask_most(three_classes, tmp_path):
    run = load_config("train_config_multi_class", overrides(three_classes, tmp_path, class_name=None)).run
    trial = Trial(run, torch.device("cpu"))
    objects = [len(trial.dataset.records[index].objects) for index in trial.hardest]
    assert objects == sorted(objects, reverse=True)
