"""The estimate of a real training step, against a real training step."""

import importlib.util
import sys

import pytest
import torch

from sam3.planning.plan.data_facts import read_facts
from sam3.planning.plan.stand_ins import BatchShape
from sam3.planning.plan.step import estimate_step
from sam3.train.config_loading import load_config
from tests.planning.plan.conftest import SHAPE, run_of
from tests.train.micro import FAST, MODEL, MULTI


@pytest.fixture(scope="module")
def benchmark(repository):
    path = repository / "benchmarks" / "plan_vs_measured.py"
    spec = importlib.util.spec_from_file_location("plan_vs_measured", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_peak_is_what_the_allocator_counts(benchmark):
    run = run_of("scratch.resolution=112")
    shape = BatchShape(images=8, resolution=112, phrases=1, objects=4, with_masks=True)
    measured, _ = benchmark.measure(run, shape, stand_in=True)
    predicted = estimate_step(run, shape, "cpu")
    assert not predicted.is_optimizer_the_peak
    assert predicted.peak == pytest.approx(measured, rel=0.10)


def test_static_sizes_are_those_of_float32_and_adamw(full):
    parameters = full.trainable + full.frozen
    assert full.frozen == 0
    assert full.weights == full.gradients == 4 * parameters
    assert full.moments == 8 * parameters
    assert full.peak >= full.weights + full.moments + full.gradients


def test_frozen_parts_have_neither_gradients_nor_moments(full, frozen):
    assert frozen.weights == full.weights
    assert frozen.trainable + frozen.frozen == full.trainable
    assert (frozen.gradients, frozen.moments) == (4 * frozen.trainable, 8 * frozen.trainable)
    assert frozen.peak < full.peak
    assert frozen.trace.flop < full.trace.flop


def test_a_gpu_computes_in_bfloat16_and_averaged_weights_cost_a_copy(full):
    gpu = estimate_step(run_of("trainer.accelerator=auto", "trainer.ema={decay: 0.9}"), SHAPE, "cuda")
    assert (full.dtype, gpu.dtype) == (None, torch.bfloat16)
    assert gpu.optimizer_peak == gpu.resting + 2 * gpu.gradients
    assert (full.averages, gpu.averages) == (0, full.weights)
    assert gpu.resting == full.resting + full.weights


def test_sizes_come_from_the_largest_picture_of_the_data(three_classes, tmp_path):
    settings = [*MODEL, *FAST, f"paths.dataset_root={three_classes}", "dataset.class_name=null"]
    run = load_config(MULTI, settings).run
    facts = read_facts(run)
    assert facts.phrases == 3 + 1  # every class, and a phrase from outside the data set
    assert read_facts(load_config(MULTI, [*settings, "data.negatives=null"]).run).phrases == 3
    assert 1 <= facts.objects <= 3
    assert facts.steps_per_epoch == 3
    assert "largest picture of 6" in facts.source
    assert read_facts(load_config(MULTI, [*settings, "scratch.max_negatives_per_img=0"]).run).phrases < 3 + 1
    given = read_facts(run, phrases=9, objects=0, images=100)
    assert (given.phrases, given.objects, given.steps_per_epoch) == (9, 0, 50)
    chunked = load_config(MULTI, [*settings, "data.train.dataset.category_chunk_size=2"]).run
    assert given.shape(chunked).phrases == 2
    automatic = load_config(MULTI, [*settings, "scratch.train_batch_size=auto"]).run
    assert (read_facts(automatic).steps_per_epoch, read_facts(automatic).shape(automatic).images) == (6, 1)


def test_without_data_the_assumption_is_said():
    facts = read_facts(run_of())
    assert (facts.phrases, facts.objects, facts.steps_per_epoch) == (1, 8, None)
    assert "no training data" in facts.source
