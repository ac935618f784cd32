"""``sam3 plan``'s peak beside the measured one: ``python benchmarks/plan_vs_measured.py [--only tiny,mid/full]``.

Measured is a step of the real trainer on the CPU, after one that leaves the optimizer's moments: what the tensors
that live between steps hold, plus the highest point of the allocator's own record of the step. That record is
PyTorch's profiler (``profile_memory``): the CPU allocator reports every allocation and release to it, kernels'
workspace included, whoever asks. The resident size of the process would not do: freed pages return to the system when
the C library pleases.

Predicted and measured step match the same number of queries by number (``stand-in``), because which pairs exceed the
one-to-many threshold depends on training; the last column shows the real matchers on untrained weights.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import torch

from sam3.planning.plan.stand_ins import BatchShape, make_batch, replace_matchers, tensors_of
from sam3.planning.plan.step import build_step_trainer, estimate_step
from sam3.planning.plan.trace import storage_bytes
from sam3.train.config_loading import load_config
from sam3.train.schema import RunConfig
from sam3.train.trainer import Trainer

MIB = 2**20
TINY = ["model=tiny"]
MID = [
    "model=tiny",
    "scratch.resolution=224",
    "model.overrides={vision: {embed_dim: 192, num_heads: 6, depth: 6, window_size: 8, global_blocks: [2, 5]}, "
    "text: {width: 128, num_layers: 4, context_length: 32}, detector: {d_model: 96, num_heads: 4, dropout: 0.1, "
    "dim_feedforward: 384, encoder_layers: 3, decoder_layers: 3, num_queries: 50}}",
]
CHECKPOINTED = ["model.activation_checkpointing=true"]


@dataclass(frozen=True)
class Setting:
    """Overrides of the configuration, and what a batch holds."""

    overrides: list[str]
    images: int = 2
    phrases: int = 1
    objects: int = 3


SETTINGS = {
    "tiny/full": Setting(TINY),
    "tiny/batch 8": Setting(TINY, images=8),
    "tiny/resolution 224": Setting([*TINY, "scratch.resolution=224"]),
    "tiny/frozen text": Setting([*TINY, "tune=frozen_text"], images=4),
    "tiny/lora": Setting([*TINY, "tune=lora"]),
    "tiny/checkpointed": Setting([*TINY, *CHECKPOINTED], images=8),
    "tiny/8 phrases": Setting(TINY, phrases=8, objects=8),
    "tiny/20 objects": Setting(TINY, objects=20),
    "mid/full": Setting(MID),
    "mid/batch 4": Setting(MID, images=4),
    "mid/resolution 336": Setting([*MID, "scratch.resolution=336"]),
    "mid/frozen text": Setting([*MID, "tune=frozen_text"]),
    "mid/lora": Setting([*MID, "tune=lora"]),
    "mid/decoder": Setting([*MID, "tune=decoder"]),
    "mid/average": Setting([*MID, "trainer.ema={decay: 0.99}"]),
    "mid/checkpointed": Setting([*MID, *CHECKPOINTED], images=4),
    "mid/in 4 parts": Setting([*MID, "scratch.gradient_accumulation_steps=4"], images=4),
    "mid/sampled masks": Setting([*MID, "loss=box_mask_sampled"], objects=20),
    "mid/bfloat16": Setting([*MID, "optim.amp.enabled=true"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="beginnings of the settings' names, separated by commas")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread, peak of one training step in MiB\n")
    print("| setting | predicted | measured | ratio | measured, real matchers | trace s | step s |")
    print("|---|---|---|---|---|---|---|")
    for name, setting in SETTINGS.items():
        if name.startswith(tuple(options.only.split(","))):
            print(f"| {name} | {row(setting)} |", flush=True)


def row(setting: Setting) -> str:
    """The numbers of one setting."""
    run = load_config(
        "train_config_single_class", ["paths.dataset_root=none", "trainer.accelerator=cpu", *setting.overrides]
    ).run
    shape = BatchShape(setting.images, run.model.resolution, setting.phrases, setting.objects, with_masks=True)
    start = time.perf_counter()
    predicted = estimate_step(run, shape, "cpu").peak
    traced = time.perf_counter() - start
    measured, seconds = measure(run, shape, stand_in=True)
    untrained, _ = measure(run, shape, stand_in=False)
    return (
        f"{predicted / MIB:.1f} | {measured / MIB:.1f} | {predicted / measured:.3f} | {untrained / MIB:.1f} | "
        f"{traced:.1f} | {seconds:.2f}"
    )


def measure(run: RunConfig, shape: BatchShape, *, stand_in: bool) -> tuple[int, float]:
    """Peak of a real step in bytes, and the seconds it took under the profiler."""
    torch.manual_seed(0)
    trainer = build_step_trainer(run, "cpu", None)
    if stand_in:
        replace_matchers(trainer.criterion)
    batch = make_batch(shape, None)
    trainer.train_step(batch)  # leaves the moments, and tables that are computed once
    trainer.optimizer.zero_grad()
    start = time.perf_counter()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        trainer.train_step(batch)
    seconds = time.perf_counter() - start
    return _resting(trainer, batch) + _highest_point(profile), seconds


def _resting(trainer: Trainer, batch: object) -> int:
    """What is alive between two steps."""
    states = [v for state in trainer.optimizer.optimizer.state.values() for v in state.values() if torch.is_tensor(v)]
    if trainer.state.average is not None:
        states += trainer.state.average.state_dict()["averages"].values()
    return sum(map(storage_bytes, [*trainer.model.parameters(), *trainer.model.buffers(), *states, *tensors_of(batch)]))


def _highest_point(profile: torch.profiler.profile) -> int:
    """Of the allocator's record, in bytes above its beginning."""
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


if __name__ == "__main__":
    main()
