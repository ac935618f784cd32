"""What a computation allocates, counted storage by storage while it runs on fake tensors.

A fake tensor has a shape, a dtype and a storage of a certain size, but no memory. The real network, loss and backward
pass run on them; a dispatch mode sees every operation, below autograd and below the recomputation of activation
checkpoints, and a weak reference tells when a storage dies. Kernels' own workspace is not seen.
"""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_SCALAR = torch.ops.aten._local_scalar_dense.default
_INDEX = torch.ops.aten.index.Tensor


def _attention_flop(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _attention_backward_flop(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape)


_aten = torch.ops.aten
_FLOP: dict[Any, Callable[..., int]] = flop_registry | {  # torch's table lacks attention on the CPU
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flop,
}


@dataclass(frozen=True)
class Trace:
    """Bytes beyond what was there before, and floating-point operations (a multiply-add counts as two)."""

    peak: int
    gradients_at_peak: int
    kept_after_forward: int  # what the backward pass will read
    flop: int
    peak_operation: str


class LiveStorages(TorchDispatchMode):
    """Bytes of all storages that operations made inside the mode and that are still alive; also counts their FLOP.

    Operations that would read the value of a fake tensor (``.item()``) get 1, so that a loss counts as finite.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.peak_operation = ""
        self.flop = 0
        self.at_peak: Callable[[], None] = lambda: None  # called whenever the peak rises
        self._storages: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is _SCALAR and isinstance(args[0], FakeTensor):
            return _one(args[0].dtype)
        if func is _INDEX:
            args = (args[0], _positions(args[1]), *args[2:])
        result = func(*args, **(kwargs or {}))
        formula = _FLOP.get(func._overloadpacket)
        if formula is not None:
            self.flop += formula(*args, **(kwargs or {}), out_val=result)
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage(), str(func))
        return result

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """Storages that are there already and must not be counted when an operation returns them."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._storages[storage._cdata] = weakref.ref(storage)

    def _count(self, storage: torch.UntypedStorage, operation: str) -> None:
        key, size = storage._cdata, storage.nbytes()
        known = self._storages.get(key)
        if known is not None and known() is not None:
            return
        self._storages[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.live += size
        if self.live > self.peak:
            self.peak, self.peak_operation = self.live, operation
            self.at_peak()

    def _forget(self, key: int, size: int) -> None:
        self._storages.pop(key, None)
        self.live -= size


def _one(dtype: torch.dtype) -> float | int | bool:
    if dtype == torch.bool:
        return True
    return 1.0 if dtype.is_floating_point else 1


def _positions(indices: Iterable[Tensor | None]) -> list[Tensor | None]:
    """Real boolean masks as positions: a fake tensor indexed by a mask would not know its length."""
    result: list[Tensor | None] = []
    for index in indices:
        is_mask = index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor)
        result += index.nonzero().unbind(1) if is_mask else [index]
    return result


def trace_step(
    step: Callable[[], Any], *, parameters: Iterable[nn.Parameter], there: Iterable[Tensor], forward_end: nn.Module
) -> Trace:
    """Run ``step`` and count.

    Args:
        parameters: whose gradients are told apart from activations.
        there: what else is alive before and is not counted.
        forward_end: the module that ends the forward pass, the criterion.
    """
    parameters = list(parameters)
    live = LiveStorages()
    live.ignore([*parameters, *there])
    gradients, at_peak, kept = _Counter(), _Counter(), _Counter()
    live.at_peak = lambda: at_peak.set(gradients.value)
    handles = [
        parameter.register_post_accumulate_grad_hook(lambda p: gradients.set(_gradient_bytes(parameters)))
        for parameter in parameters
        if parameter.requires_grad
    ]
    handles.append(forward_end.register_forward_hook(lambda *_: kept.raise_to(live.live - gradients.value)))
    try:
        with live:
            step()
    finally:
        for handle in handles:
            handle.remove()
    return Trace(live.peak, at_peak.value, kept.value, live.flop, live.peak_operation)


class _Counter:
    """A number that callbacks set."""

    value = 0

    def set(self, value: int) -> None:
        self.value = value

    def raise_to(self, value: int) -> None:
        self.value = max(self.value, value)


def _gradient_bytes(parameters: Iterable[nn.Parameter]) -> int:
    return sum(storage_bytes(p.grad) for p in parameters if p.grad is not None)


def storage_bytes(tensor: Tensor) -> int:
    """Bytes of what a tensor is a view of."""
    return tensor.untyped_storage().nbytes()


def fake_mode() -> FakeTensorMode:
    """Fake tensors that may meet real ones: indices stay real, so that code may read them."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def make_fake(model: nn.Module, mode: FakeTensorMode) -> None:
    """Replace parameters and buffers on the meta device by fake ones on the CPU, shared ones shared."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = made.setdefault(id(tensor), _fake(tensor, mode))


def _fake(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    with mode:
        empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty
