"""Prompts in several passes: the same loss and gradients, memory that does not follow the number of classes."""

import random

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from sam3.data.collate import collate, split_prompts
from sam3.data.samples import Objects, Query, Sample
from sam3.structures import Batch
from sam3.train.assembly import build_criterion
from sam3.train.config_loading import load_config
from sam3.train.losses.normalization import Share
from sam3.train.model_setup import build_model
from sam3.train.prompt_passes import losses_in_passes, predict_in_passes
from tests.train.micro import MODEL, SINGLE, make_trainer

ROOT = "paths.dataset_root=/data"


def setting(*extra: str):
    """A model and a criterion."""
    run = load_config(SINGLE, [ROOT, *extra]).run
    torch.manual_seed(0)
    return build_model(run.model, "cpu", with_weights=False), build_criterion(run.loss)


def batch_of(classes: int, side: int, *, images: int = 1, objects: int = 4) -> Batch:
    """Images that are asked for ``classes`` words each, of which ``objects`` are there."""
    generator, rng = torch.Generator().manual_seed(1), random.Random(1)
    samples = []
    for number in range(images):
        boxes = torch.rand(objects, 4, generator=generator) * 0.4 + 0.3
        masks = [torch.rand(side, side, generator=generator) > 0.5 for _ in range(objects)]
        present = rng.sample(range(classes), min(classes, objects))
        queries = [
            Query(f"thing {c}", c, tuple(i for i in range(objects) if present[i % len(present)] == c))
            for c in range(classes)
        ]
        things = Objects(boxes, torch.full((objects,), 0.1), torch.zeros(objects, dtype=torch.bool), masks)
        image = torch.randn(3, side, side, generator=generator)
        samples.append(Sample(image, things, queries, number, f"{number}.png", (side, side)))
    return collate(samples)


def step(model, criterion, batch, prompts_per_pass, share=None):
    model.zero_grad(set_to_none=True)
    share = share or Share.whole(batch.targets)
    losses = losses_in_passes(model, criterion, batch, share, prompts_per_pass=prompts_per_pass)
    losses.total.backward()
    return losses, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "extra",
    [(), ("loss=box_mask_semantic", "loss.semantic.only_present=false"), ("loss.normalization=local",)],
    ids=["boxes and masks", "semantic", "local"],
)
def test_loss_and_gradients_are_those_of_one_pass(extra):
    model, criterion = setting(*MODEL, *extra)
    model.train()
    for module in model.modules():  # drawn once for all prompts in one pass, once a pass in several
        module.dropout = (
            0.0 if isinstance(getattr(module, "dropout", None), float) else getattr(module, "dropout", None)
        )
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "rate"):
            module.rate = 0.0
    batch = batch_of(7, 56, images=2, objects=3)
    share = Share(prompts=20, objects=9, fraction=0.7, processes=2)
    whole, gradients = step(model, criterion, batch, None, share)
    for prompts_per_pass in (1, 3, 7):
        losses, own = step(model, criterion, batch, prompts_per_pass, share)
        torch.testing.assert_close(losses.total, whole.total, rtol=1e-5, atol=0)
        assert losses.parts.keys() == whole.parts.keys()
        assert own.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(own[name], gradient, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_dropout_draws_the_same_numbers_in_the_backward_pass():
    model, criterion = setting(*MODEL)
    model.train()
    batch = batch_of(4, 56)
    torch.manual_seed(3)
    first, gradients = step(model, criterion, batch, 2)
    torch.manual_seed(3)
    second, again = step(model, criterion, batch, 2)
    assert torch.equal(first.total, second.total)
    assert all(torch.equal(gradient, again[name]) for name, gradient in gradients.items())


def test_outputs_without_gradients_are_those_of_one_pass():
    model, _ = setting(*MODEL)
    model.eval()
    batch = batch_of(5, 56, images=2)
    with torch.no_grad():
        whole = model(batch).one_to_one
        parts = predict_in_passes(model, batch, lambda part, output: (part, output), prompts_per_pass=2)
    assert [part.num_prompts for part, _ in parts] == [4, 3, 3]
    for name in ("logits", "boxes", "masks"):
        joined = torch.cat([getattr(output.one_to_one, name) for _, output in parts])
        torch.testing.assert_close(joined, getattr(whole, name), rtol=1e-4, atol=1e-4)
        assert predict_in_passes(model, batch, lambda part, _: part, prompts_per_pass=5) == [batch]


@pytest.mark.parametrize("prompts_per_pass", [1, 2, None])
def test_a_training_step_works_in_as_many_passes_as_it_is_told(three_classes, tmp_path, prompts_per_pass):
    setting = f"trainer.prompts_per_pass={prompts_per_pass or 'null'}"
    trainer = make_trainer(three_classes, tmp_path, setting, class_name=None)
    batch = next(trainer.train_loader.iterate())
    asked, ground = [], trainer.model.ground_batch
    trainer.model.ground_batch = lambda image, part: asked.append(part.num_prompts) or ground(image, part)
    result = trainer.train_step(batch)
    assert torch.isfinite(result.losses["loss"])
    limit = len(batch) * prompts_per_pass if prompts_per_pass else batch.num_prompts
    passes = [part.num_prompts for part in split_prompts(batch, limit)]
    again = 2 if len(passes) > 1 else 1  # once more in the backward pass
    assert sorted(asked) == sorted(passes * again)
    assert len(passes) == -(-batch.num_prompts // limit)


def test_validation_in_passes_finds_and_costs_the_same(three_classes, tmp_path):
    trainer = make_trainer(three_classes, tmp_path, class_name=None)
    trainer.model.eval()
    found = []
    for prompts_per_pass in (None, 1):
        trainer.validator.prompts_per_pass = prompts_per_pass
        with torch.no_grad():
            found.append(trainer.validator._predict(trainer.model))
    one, several = found
    assert [entry[:2] for entry in one.records] == [entry[:2] for entry in several.records]
    for first, second in zip(one.records, several.records, strict=True):
        assert [r["score"] for r in first[2]] == pytest.approx([r["score"] for r in second[2]], abs=1e-4)
    for first, second in zip(one.losses, several.losses, strict=True):
        assert first[:2] == second[:2]
        assert first[2]["loss"] == pytest.approx(second[2]["loss"], rel=1e-4)


def peak_of_a_step(classes: int, prompts_per_pass: int | None, *, training: bool = True) -> int:
    """Most bytes that a step of the tiny network adds, by the count of torch's allocator."""
    model, criterion = setting("experiment=tiny_from_scratch")
    batch = batch_of(classes, 112)
    model.train(training)

    def work() -> None:
        if training:
            step(model, criterion, batch, prompts_per_pass)
            return
        with torch.no_grad():
            predict_in_passes(
                model,
                batch,
                lambda part, output: criterion(output, part.targets).parts,
                prompts_per_pass=prompts_per_pass,
            )

    work()
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    assert peak > 0
    return peak


@pytest.mark.parametrize("training", [True, False], ids=["training", "validation"])
def test_memory_does_not_grow_with_the_number_of_classes(training):
    few, many, at_once = (peak_of_a_step(*arguments, training=training) for arguments in ((8, 8), (80, 8), (80, None)))
    assert many <= 1.1 * few
    assert at_once > 3 * few
