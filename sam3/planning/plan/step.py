"""One training step of a configuration on fake tensors: parameters, memory and work, without data, weights or a GPU."""

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sam3.planning.plan.gpu_kernels import gpu_kernels
from sam3.planning.plan.stand_ins import BatchShape, make_batch, replace_matchers, tensors_of
from sam3.planning.plan.trace import Trace, fake_mode, make_fake, storage_bytes, trace_step
from sam3.train.assembly import build_criterion, build_scheduled_optimizer, choose_precision
from sam3.train.batch_dumps import BatchDumps
from sam3.train.checkpointing import RunState
from sam3.train.engine import connect
from sam3.train.meters import RunningMeans
from sam3.train.model_setup import build_model
from sam3.train.plan import count_parameters
from sam3.train.progress import Progress
from sam3.train.schema import RunConfig
from sam3.train.trainer import Precision, Trainer
from sam3.train.weight_average import WeightAverage


@dataclass(frozen=True)
class Estimate:
    """What one step takes; sizes in bytes."""

    shape: BatchShape
    device: str  # "cuda" or "cpu": whose kernels and whose default precision were assumed
    dtype: torch.dtype | None  # of autocast; None = float32
    trainable: int  # parameters
    frozen: int
    weights: int
    gradients: int
    moments: int
    averages: int  # of the weights, with trainer.ema
    largest: int  # gradient
    batch: int
    trace: Trace

    @property
    def resting(self) -> int:
        """Between two steps."""
        return self.weights + self.moments + self.averages + self.batch

    @property
    def peak(self) -> int:
        """Most that is alive at once during a step, all tensors together."""
        return max(self.resting + self.trace.peak, self.optimizer_peak)

    @property
    def is_optimizer_the_peak(self) -> bool:
        return self.optimizer_peak > self.resting + self.trace.peak

    @property
    def optimizer_peak(self) -> int:
        """While AdamW changes the weights: on a GPU all at a time, with one temporary as large as all gradients;
        elsewhere one parameter after the other, with two as large as it."""
        return self.resting + self.gradients + (self.gradients if self.device == "cuda" else 2 * self.largest)

    @property
    def activations(self) -> int:
        """At the peak, whatever is neither weight, moment, gradient nor batch."""
        return self.trace.peak - self.trace.gradients_at_peak


def estimate_step(run: RunConfig, shape: BatchShape, device: str) -> Estimate:
    """Trace one step of the run's own trainer.

    Args:
        shape: of the batch; ``images`` is the whole batch, which ``gradient_accumulation_steps`` splits.
        device: ``cuda`` or ``cpu``.
    """
    mode = fake_mode()
    trainer = build_step_trainer(run, device, mode)
    replace_matchers(trainer.criterion)
    parameters = list(trainer.model.parameters())
    batch = make_batch(shape, mode)
    averages = [] if trainer.state.average is None else list(trainer.state.average.state_dict()["averages"].values())
    moments = _moment_bytes(trainer, mode)
    trainer.optimizer.optimizer.step = lambda: None  # elementwise on thousands of tensors; see optimizer_peak
    with gpu_kernels() if device == "cuda" else nullcontext():
        trace = trace_step(
            lambda: trainer.train_step(batch),
            parameters=parameters,
            there=[*tensors_of(batch), *averages],
            forward_end=trainer.criterion,
        )
    trainable, frozen = count_parameters(trainer.model)
    return Estimate(
        shape=shape,
        device=device,
        dtype=trainer.precision.dtype,
        trainable=trainable,
        frozen=frozen,
        weights=sum(map(storage_bytes, [*parameters, *trainer.model.buffers()])),
        gradients=sum(storage_bytes(p) for p in parameters if p.requires_grad),
        moments=moments,
        averages=sum(map(storage_bytes, averages)),
        largest=max(storage_bytes(p) for p in parameters if p.requires_grad),
        batch=sum(map(storage_bytes, tensors_of(batch))),
        trace=trace,
    )


def build_step_trainer(run: RunConfig, device: str, mode: FakeTensorMode | None) -> Trainer:
    """The trainer of the run with everything of a step and nothing around it.

    Args:
        mode: of the fake tensors that stand for weights; None = real ones, random.
    """
    settings = replace(run.model, feature_cache=None)  # the first epoch fills the cache, and pays for the trunk
    if mode is None:
        model = build_model(settings, "cpu", with_weights=False)
    else:
        with torch.device("meta"):
            model = build_model(settings, "meta", with_weights=False)
        make_fake(model, mode)
    average = WeightAverage(model, run.trainer.ema.decay) if run.trainer.ema else None
    criterion = build_criterion(run.loss)
    optimizer = build_scheduled_optimizer(model, run.optim)
    dtype = choose_precision(run.optim.amp, torch.device(device)).dtype
    precision = Precision(torch.device("cpu"), dtype)  # where fake tensors are; the type is the device's
    return Trainer(
        model=model,
        criterion=criterion,
        network=connect(model, criterion, prompts_per_pass=run.trainer.prompts_per_pass),
        optimizer=optimizer,
        state=RunState(model, optimizer, precision.scaler(), Progress(), RunningMeans(), average),
        train_loader=range(1),
        validator=None,
        checkpointer=None,
        log=None,
        precision=precision,
        settings=replace(run.trainer, callbacks=[]),
        clip=run.optim.gradient_clip,
        dumps=BatchDumps("none", limit=0),
    )


def _moment_bytes(trainer: Trainer, mode: FakeTensorMode) -> int:
    """What the optimizer keeps beside the weights after its first step, from one parameter of each group."""
    optimizer, total = trainer.optimizer.optimizer, 0
    firsts = [group["params"][0] for group in optimizer.param_groups]
    for parameter in firsts:
        with mode:
            parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    for first, group in zip(firsts, optimizer.param_groups, strict=True):
        kept = [value for value in optimizer.state[first].values() if isinstance(value, torch.Tensor) and value.dim()]
        total += sum(p.numel() * value.element_size() for p in group["params"] for value in kept)
    optimizer.state.clear()
    trainer.optimizer.zero_grad()
    return total
