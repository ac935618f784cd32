"""Where the time of a training step goes, and whether the loader keeps ahead of it.

    python benchmarks/train_step.py                                   # tiny and mid on this CPU
    python benchmarks/train_step.py --device cuda --preset sam3 --batch 1 2 --dtype bf16 --tune full frozen_text lora

The step is the trainer's own, on pictures of the demonstration's world; clocks are read where its parts meet.
``data``: waiting for the loader; ``other``: schedules, dropping gradients, copying the batch to the device.
Random weights hit few objects, so the one-to-many queries of a young network cost the losses little. The losses are
therefore measured a second time, their backward pass included, on copies of the network's answers whose boxes lie on
the objects as often as the one-to-many matcher takes (``settled``). CPU time is that of the process: on a machine that
others use it is the fairer figure. MFU counts the products of forward and backward pass without recomputation,
against the best measured matrix product.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from settled_losses import layers, settled
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from sam3.data.labelme_conversion import LabelmeOptions, convert
from sam3.data.loader import build_loader
from sam3.demo.world import World, write_world
from sam3.model.layers.layer_list import set_activation_checkpointing
from sam3.structures import Batch, DetectorOutput, QueryPredictions, map_tensors, to_device
from sam3.train.assembly import build_trainer, lay_foundation
from sam3.train.config_loading import LoadedConfig, load_config
from sam3.train.trainer import Trainer

PARTS = ("data", "forward", "matcher", "loss", "backward", "optimizer", "other")
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
BOUND = 0.15  # of a mid-size step, for matcher and losses
SETTLING = 5  # steps in which workers start and memory is taken

MID_MODEL = (
    "{vision: {embed_dim: 384, depth: 12, num_heads: 6, window_size: 12, global_blocks: [2, 5, 8, 11], "
    "pretrain_image_size: 336}, text: {width: 256, num_heads: 4, num_layers: 6, projection_dim: 256}, detector: "
    "{d_model: 256, num_heads: 8, dim_feedforward: 1024, geometry_layers: 2, encoder_layers: 3, decoder_layers: 4, "
    "num_queries: 100, prompt_mlp_dim: 512}}"
)


@dataclass(frozen=True)
class Size:
    """A network, its recipe and pictures that fit it."""

    overrides: tuple[str, ...]
    world: World
    batch: int


PHOTOS = World(image_sides=(336, 448), num_shapes=(3, 8), radii=(0.06, 0.12))
SIZES = {
    "tiny": Size(("experiment=tiny_from_scratch",), World(), batch=8),
    "mid": Size(
        ("model=tiny", f"model.overrides={MID_MODEL}", "scratch.resolution=336", "scratch.max_negatives_per_img=1"),
        PHOTOS,
        batch=1,
    ),
    "sam3": Size(
        ("model=sam3", "model.load_from_HF=false", "scratch.max_negatives_per_img=1"),
        replace(PHOTOS, image_sides=(800, 1200)),
        batch=1,
    ),
}


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    preset: str
    tune: str
    batch: int
    dtype: str
    device: str

    def load(self, data: Path, out: Path, *, workers: int) -> LoadedConfig:
        """The composed configuration of a run in ``out``."""
        return load_config(
            "train_config_multi_class",
            [
                *SIZES[self.preset].overrides,
                *([] if self.tune == "full" else [f"tune={self.tune}"]),
                f"paths.dataset_root={data}",
                f"paths.experiment_log_dir={out}",
                f"scratch.train_batch_size={self.batch}",
                f"scratch.num_train_workers={workers}",
                f"trainer.accelerator={self.device}",
                "trainer.mode=train_only",
                "logging.tensorboard.enabled=false",
                f"optim.amp.enabled={str(self.dtype != 'fp32').lower()}",
                f"optim.amp.dtype={DTYPES['bf16' if self.dtype == 'fp32' else self.dtype]}",
            ],
        )


class StepClock:
    """Puts the time since the last mark to the account of a part; marks stand where the parts of a step meet."""

    def __init__(self, trainer: Trainer) -> None:
        self.device = trainer.precision.device
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self._last = self._now()
        trainer.model.register_forward_pre_hook(lambda *_: self.mark("other"))
        trainer.model.register_forward_hook(lambda *_: self.mark("forward"))
        trainer.criterion.register_forward_pre_hook(lambda *_: self.mark("forward"))
        trainer.criterion.register_forward_hook(lambda *_: self.mark("loss"))
        for name in ("matcher", "o2m_matcher"):
            setattr(trainer.criterion, name, _TimedMatcher(getattr(trainer.criterion, name), self))
        scaler = trainer.state.scaler
        unscale = scaler.unscale_
        scaler.unscale_ = lambda optimizer: (self.mark("backward"), unscale(optimizer))[1]

    def start(self) -> None:
        """Forget everything."""
        self.wall.clear()
        self.cpu.clear()
        self._last = self._now()

    def mark(self, part: str) -> None:
        now = self._now()
        self.wall[part] += now[0] - self._last[0]
        self.cpu[part] += now[1] - self._last[1]
        self._last = now

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()


class _TimedMatcher:
    def __init__(self, matcher: Any, clock: StepClock) -> None:
        self.matcher = matcher
        self.clock = clock

    def match_layers(self, *arguments: Any) -> Any:
        self.clock.mark("loss")
        matches = self.matcher.match_layers(*arguments)
        self.clock.mark("matcher")
        return matches


@dataclass
class Result:
    """Means of a step; seconds."""

    case: Case
    parameters: int  # that learn
    prompts: float = 0.0  # of a batch
    objects: float = 0.0
    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    settled: float = 0.0  # of matcher and losses with all their pairs, backward included
    peak_gb: float = 0.0
    flop: float = 0.0
    matmul_flops: float = 0.0  # a second, at best

    @property
    def seconds(self) -> float:
        return sum(self.wall.values())

    @property
    def shares(self) -> dict[str, float]:
        """Part -> share of the step: of its CPU time, on an accelerator of its wall time."""
        times = self.cpu if self.case.device == "cpu" else self.wall
        return {part: times[part] / sum(times.values()) for part in PARTS}

    @property
    def judged(self) -> float:
        """Share of the matcher and the losses without their backward pass."""
        return self.shares["matcher"] + self.shares["loss"]

    @property
    def judged_settled(self) -> float:
        """The same with the pairs of a trained network and with the backward pass of the losses."""
        times = self.cpu if self.case.device == "cpu" else self.wall
        rest = sum(times.values()) - times["matcher"] - times["loss"]
        return self.settled / (rest + self.settled)

    @property
    def mfu(self) -> float:
        return self.flop / self.seconds / self.matmul_flops


def measure_step(case: Case, data: Path, *, steps: int, warmup: int, matmul_flops: float) -> Result:
    """Time of the parts of a step; batches are loaded in this process."""
    with tempfile.TemporaryDirectory() as out:
        loaded = case.load(data, Path(out), workers=0)
        trainer = build_trainer(loaded, lay_foundation(loaded.run))
    clock = StepClock(trainer)
    result = Result(case, sum(p.numel() for p in trainer.model.parameters() if p.requires_grad))
    batches = endless(trainer)
    for _ in range(warmup):
        trainer.train_step(next(batches))
    if clock.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(clock.device)
    used = []
    clock.start()
    for _ in range(steps):
        used.append(next(batches))
        clock.mark("data")
        trainer.train_step(used[-1])
        clock.mark("optimizer")
    result.wall = {part: clock.wall[part] / steps for part in PARTS}
    result.cpu = {part: clock.cpu[part] / steps for part in PARTS}
    result.peak_gb = peak_gb(clock.device)
    result.prompts = sum(batch.num_prompts for batch in used) / steps
    result.objects = sum(len(batch.targets.boxes) for batch in used) / steps
    result.settled = sum(settled_loss_seconds(trainer, clock, batch) for batch in used[:5]) / len(used[:5])
    result.flop = step_flop(trainer.model, used[0])
    result.matmul_flops = matmul_flops
    return result


def endless(trainer: Trainer):
    """Batches of one epoch after the other."""
    epoch = 0
    while True:
        trainer.train_loader.set_epoch(epoch)
        yield from trainer.train_loader.iterate()
        epoch += 1


def settled_loss_seconds(trainer: Trainer, clock: StepClock, batch: Batch) -> float:
    """Matcher and losses, forward and backward, with as many pairs as a trained network has."""
    batch = to_device(batch, clock.device)
    with trainer.precision.autocast(), torch.no_grad():
        output = trainer.model(batch)
    leaves = settled(output, batch.targets, copies=trainer.criterion.o2m_matcher.matcher.topk)
    clock.start()
    with trainer.precision.autocast():
        total = trainer.criterion(leaves, batch.targets).total
    total.backward()
    clock.mark("backward")
    return sum((clock.cpu if clock.device.type == "cpu" else clock.wall).values())


def step_flop(model: nn.Module, batch: Batch) -> float:
    """Floating-point operations of the products in one step, counted on shapes alone, nothing recomputed."""
    set_activation_checkpointing(model, False)
    model.to("cpu")
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    tensors = {name: fake.from_tensor(t) for name, t in [*model.named_parameters(), *model.named_buffers()]}
    batch = map_tensors(batch, fake.from_tensor)
    with fake, FlopCounterMode(display=False) as counter:
        output = functional_call(model, tensors, (batch,))
        sum(answer.float().sum() for answer in answers(output)).backward()
    return float(counter.get_total_flops())


def answers(output: DetectorOutput) -> list[torch.Tensor]:
    """Everything that a loss looks at."""
    tensors = [getattr(layer, part.name) for layer in layers(output) for part in fields(QueryPredictions)]
    return [tensor for tensor in tensors if tensor is not None]


def best_matmul(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large square product, the best of several."""
    side = 8192 if device.type == "cuda" else 512 if dtype == torch.float32 else 128
    first, second = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        torch.matmul(first, second)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def peak_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of the whole process so far


@dataclass(frozen=True)
class LoaderResult:
    """Seconds a batch."""

    workers: int
    load_cpu: float  # one worker's CPU time for a batch
    step_cpu: float
    step_wall: float
    wait_wall: float  # of ``step_wall``

    @property
    def margin(self) -> float:
        """How many times faster the workers are than the step, were each process alone on a core."""
        return self.step_cpu / (self.load_cpu / self.workers)


def measure_loader(case: Case, data: Path, *, workers: int, steps: int) -> LoaderResult:
    """How long steps of ``case`` wait for ``workers`` loading processes."""
    with tempfile.TemporaryDirectory() as out:
        loaded = case.load(data, Path(out), workers=workers)
        trainer = build_trainer(loaded, lay_foundation(loaded.run))
    clock, batches = StepClock(trainer), endless(trainer)
    for _ in range(min(SETTLING, steps)):
        trainer.train_step(next(batches))
    clock.start()
    for _ in range(steps):
        batch = next(batches)
        clock.mark("data")
        trainer.train_step(batch)
        clock.mark("optimizer")
    return LoaderResult(
        workers=workers,
        load_cpu=loading_cpu(trainer, steps),
        step_cpu=(sum(clock.cpu.values()) - clock.cpu["data"]) / steps,
        step_wall=sum(clock.wall.values()) / steps,
        wait_wall=clock.wall["data"] / steps,
    )


def loading_cpu(trainer: Trainer, steps: int) -> float:
    """CPU seconds of this process for loading a batch."""
    loader = build_loader(trainer.train_loader.dataset, batch_size=trainer.train_loader.batch_size, shuffle=True)
    batches = loader.iterate()
    next(batches)
    start, count = time.process_time(), 0
    for count, _ in enumerate(batches, start=1):
        if count == steps:
            break
    return (time.process_time() - start) / max(1, count)


def make_data(folder: Path, preset: str, images: int) -> Path:
    """A COCO folder of the demonstration's world in the size that suits ``preset``."""
    write_world(folder / "labelme", SIZES[preset].world, num_images=images)
    convert(LabelmeOptions(labelme_dir=folder / "labelme", output_dir=folder / "coco", train_split=0.9))
    return folder / "coco"


def table(results: Sequence[Result]) -> str:
    """Markdown: one row a case, milliseconds as CPU (wall)."""
    head = ["preset", "tune", "batch", "dtype", "learns, M", "prompts", "objects", *(f"{p}, ms" for p in PARTS)]
    head += ["step, ms", "images/s", "peak GB", "TFLOP", "MFU"]
    rows = []
    for r in results:
        times = [(r.cpu[part], r.wall[part]) for part in PARTS] + [(sum(r.cpu.values()), r.seconds)]
        row = [r.case.preset, r.case.tune, str(r.case.batch), r.case.dtype, f"{r.parameters / 1e6:.1f}"]
        row += [f"{r.prompts:.1f}", f"{r.objects:.1f}", *(f"{1e3 * c:.1f} ({1e3 * w:.1f})" for c, w in times)]
        row += [f"{r.case.batch / r.seconds:.2f}", f"{r.peak_gb:.2f}", f"{r.flop / 1e12:.3g}", f"{r.mfu:.1%}"]
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def verdicts(results: Sequence[Result]) -> str:
    lines = []
    for r in results:
        name = f"{r.case.preset} {r.case.tune} batch {r.case.batch}"
        shares = ", ".join(f"{part} {share:.1%}" for part, share in r.shares.items())
        bound = f" (bound {BOUND:.0%})" if r.case.preset == "mid" else ""
        lines.append(f"{name}: {shares}; matcher + losses {r.judged:.1%}{bound}, ")
        lines[-1] += f"settled and with their backward pass {1e3 * r.settled:.1f} ms = {r.judged_settled:.1%}"
    return "\n".join(lines)


def loader_text(result: LoaderResult) -> str:
    verdict = "keeps ahead" if result.margin > 1 else "falls behind"
    load, step = 1e3 * result.load_cpu, 1e3 * result.step_cpu
    return (
        f"loader with {result.workers} workers {verdict}: a batch costs a worker {load:.1f} ms CPU, so one comes every "
        f"{load / result.workers:.1f} ms; a step costs {step:.1f} ms CPU ({result.margin:.1f} times that). Measured "
        f"here: {1e3 * result.step_wall:.1f} ms wall a step, of which {1e3 * result.wait_wall:.1f} ms waiting "
        f"({result.wait_wall / result.step_wall:.1%})"
    )


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", nargs="+", choices=SIZES, default=["tiny", "mid"])
    parser.add_argument("--tune", nargs="+", default=["full"], help="full, or options of the config group tune")
    parser.add_argument("--batch", nargs="+", type=int, help="images a step; left out, what suits the preset")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--images", type=int, default=120, help="pictures of the world")
    parser.add_argument("--workers", type=int, default=2, help="of the loader that is measured with tiny; 0 = not")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    matmul_flops = best_matmul(device, getattr(torch, DTYPES[arguments.dtype]))
    print(f"{arguments.device} ({name}), torch {torch.__version__}, {arguments.steps} steps; best matrix product")
    print(f"{matmul_flops / 1e12:.3g} TFLOP/s in {arguments.dtype}. Times are CPU (wall), means of a step.\n")
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for preset in arguments.preset:
            data = make_data(Path(folder) / preset, preset, arguments.images)
            for tune in arguments.tune:
                for batch in arguments.batch or [SIZES[preset].batch]:
                    case = Case(preset, tune, batch, arguments.dtype, arguments.device)
                    results += _measured(case, data, arguments, matmul_flops)
        print(table(results), verdicts(results), sep="\n\n")
        if "tiny" in arguments.preset and arguments.workers:
            batch = (arguments.batch or [SIZES["tiny"].batch])[0]
            case = Case("tiny", "full", batch, arguments.dtype, arguments.device)
            measured = measure_loader(
                case, Path(folder) / "tiny" / "coco", workers=arguments.workers, steps=2 * arguments.steps
            )
            print(loader_text(measured), sep="\n")
    return 0


def _measured(case: Case, data: Path, arguments: argparse.Namespace, matmul_flops: float) -> list[Result]:
    """One result; none, and a line that says so, when the device's memory is too small."""
    try:
        return [measure_step(case, data, steps=arguments.steps, warmup=arguments.warmup, matmul_flops=matmul_flops)]
    except torch.cuda.OutOfMemoryError:
        print(f"{case.preset} {case.tune} batch {case.batch}: out of memory")
        return []
    finally:
        if case.device.startswith("cuda"):
            torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
