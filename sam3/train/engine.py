"""How the processes of a run share the work of a step: each has its own images and all of the model, or a part of it.

| ``launcher.sharding`` | weights, gradients | state of the optimizer | by |
|---|---|---|---|
| ``none`` | whole everywhere | whole everywhere | ``DistributedDataParallel`` |
| ``zero1`` | whole everywhere | each process keeps a part | the same and ``ZeroRedundancyOptimizer`` |
| ``fsdp2`` | a part each; whole only while they are used | a part each | ``fully_shard`` |

All three compute the same step. One process uses none of them. Checkpoints hold whole tensors whatever the engine,
so a run may go on with another one.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from sam3.errors import ConfigError
from sam3.structures import Batch
from sam3.train import distributed
from sam3.train.losses.criterion import Losses
from sam3.train.losses.normalization import Share
from sam3.train.prompt_passes import losses_in_passes
from sam3.train.tracker.losses import ClipLoss, ClipNetwork

OptimizerFactory = Callable[..., Optimizer]


class TrainingNetwork(nn.Module):
    """Model and loss as one module: an engine sees which parameters the loss depends on, not only the output."""

    def __init__(self, model: nn.Module, criterion: nn.Module, prompts_per_pass: int | None) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion
        self.prompts_per_pass = prompts_per_pass

    def forward(self, batch: Batch, share: Share) -> Losses:
        return losses_in_passes(self.model, self.criterion, batch, share, prompts_per_pass=self.prompts_per_pass)


def shard_model(model: nn.Module, *, sharding: str = "none", in_passes: bool = False) -> None:
    """Let each process keep its part of the parameters that learn, if ``sharding`` says so; changes ``model``.

    Frozen parameters stay whole: they have neither gradient nor optimizer state, and features computed outside the
    training step (caches) need them.

    Args:
        in_passes: phrases are encoded in several passes, whose number the images decide.
    """
    if sharding != "fsdp2" or distributed.world_size() == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")  # nobody changes it
    device = next(model.parameters()).device
    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    frozen = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    for block in _blocks(model, in_passes):
        fully_shard(block, mesh=mesh, ignored_params=frozen)
    fully_shard(model, mesh=mesh, ignored_params=frozen)


def _blocks(model: nn.Module, in_passes: bool) -> Iterator[nn.Module]:
    """Parts that are worth gathering one by one: every step uses each of them once, in every process."""
    vision, text = model.backbone.vision_backbone.trunk, model.backbone.language_backbone.encoder.transformer
    for block in (*vision.blocks, *(() if in_passes else text.resblocks)):
        if any(parameter.requires_grad for parameter in block.parameters()):
            yield block


def connect(
    model: nn.Module, criterion: nn.Module, *, sharding: str = "none", prompts_per_pass: int | None = None
) -> nn.Module:
    """The network of a training step; its gradients are means over all processes.

    A parameter without a gradient in one process (other images, other branches) is a zero there; without one
    anywhere it has none, as with one process.
    """
    is_tracker = isinstance(criterion, ClipLoss)
    network = ClipNetwork(model, criterion) if is_tracker else TrainingNetwork(model, criterion, prompts_per_pass)
    if distributed.world_size() == 1 or sharding == "fsdp2":
        return network
    with warnings.catch_warnings():  # the argument gets another name in new versions of torch
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        return DistributedDataParallel(
            network, find_unused_parameters=True, gradient_as_bucket_view=True, broadcast_buffers=False
        )


def own_gradients(network: nn.Module) -> AbstractContextManager:
    """Within the block gradients add up here and are shared later, with those of the last micro-batch.

    Parts of a sharded model are shared at once: keeping whole gradients would take the memory that sharding saves.
    """
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def choose_optimizer(make: OptimizerFactory, sharding: str) -> OptimizerFactory:
    """What builds the optimizer from parameter groups; with ``zero1`` one that keeps a part of the state.

    Raises:
        ConfigError: the optimizer is not a class with arguments, so it cannot be built for a part.
    """
    if sharding != "zero1" or distributed.world_size() == 1:
        return make
    kind, arguments = (make.func, make.keywords) if isinstance(make, partial) else (make, {})
    if not isinstance(kind, type):
        raise ConfigError(f"launcher.sharding=zero1 needs an optimizer class in optim.optimizer, got {kind}")
    from torch.distributed.optim import ZeroRedundancyOptimizer

    # It keeps the arguments as they are, and a checkpoint holds plain values only.
    arguments = {name: tuple(value) if OmegaConf.is_list(value) else value for name, value in arguments.items()}

    def make_part(groups: list[dict[str, Any]]) -> Optimizer:
        unnamed = [{"params": [parameter for _, parameter in group["params"]]} for group in groups]
        return ZeroRedundancyOptimizer(unnamed, optimizer_class=kind, **arguments)

    return make_part


# --- whole tensors out of parts, and back; called by all processes ---


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """State dict of whole tensors on the main process; empty elsewhere."""
    weights = {name: whole(tensor) for name, tensor in model.state_dict().items()}
    return weights if distributed.is_main() else {}


def whole_optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """State dict as one process would have it, on the main process; elsewhere without state."""
    if _keeps_a_part(optimizer):
        place = {p: i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
        own = {place[parameter]: _on_cpu(values) for parameter, values in optimizer.optim.state.items()}
        gathered = {index: values for part in distributed.gather_objects(own) for index, values in part.items()}
        return {
            "state": dict(sorted(gathered.items())),
            "param_groups": Optimizer.state_dict(optimizer)["param_groups"],
        }
    content = optimizer.state_dict()
    state = {
        index: {name: whole(value) for name, value in values.items()} for index, values in content["state"].items()
    }
    return {"state": state if distributed.is_main() else {}, "param_groups": content["param_groups"]}


def load_whole_optimizer_state(optimizer: Optimizer, content: Mapping[str, Any]) -> None:
    """Inverse of :func:`whole_optimizer_state`, from the whole state in every process; copies what it keeps."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    mine = _owned(optimizer, parameters)
    state = {
        index: {name: part_like(value, parameters[index]) for name, value in values.items()} if index in mine else {}
        for index, values in content["state"].items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": deepcopy(content["param_groups"])})
    if _keeps_a_part(optimizer):
        optimizer.state.clear()  # a second copy; the part lives in ``optimizer.optim``


def whole(tensor: Any) -> Any:
    """The whole of a sharded tensor, on the CPU of the main process (elsewhere None); other values as they are."""
    if not _is_part(tensor):
        return tensor
    full = tensor.full_tensor()
    return full.cpu() if distributed.is_main() else None


def part_like(value: Any, parameter: Tensor) -> Any:
    """A copy of ``value``, reduced to this process's part if ``parameter`` is one."""
    if not isinstance(value, Tensor) or not _is_part(parameter) or value.dim() == 0:
        return deepcopy(value)
    from torch.distributed.tensor import distribute_tensor

    here = value.to(parameter.device)
    return distribute_tensor(here, parameter.device_mesh, parameter.placements, src_data_rank=None).clone()


def _owned(optimizer: Optimizer, parameters: list[Tensor]) -> set[int]:
    """Places of the parameters whose state is kept here."""
    if not _keeps_a_part(optimizer):
        return set(range(len(parameters)))
    own = {id(parameter) for group in optimizer.optim.param_groups for parameter in group["params"]}
    return {index for index, parameter in enumerate(parameters) if id(parameter) in own}


def _is_part(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and hasattr(tensor, "full_tensor")


def _keeps_a_part(optimizer: Optimizer) -> bool:
    return hasattr(optimizer, "consolidate_state_dict")


def _on_cpu(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.cpu() if isinstance(value, Tensor) else value for name, value in values.items()}
