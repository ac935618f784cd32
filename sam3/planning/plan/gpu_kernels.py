"""What differs on a GPU, for a trace that runs on the CPU: fused attention with dropout, and autocast's list."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_IN_FLOAT32 = ("layer_norm", "group_norm")  # under autocast on CUDA; on the CPU in the type of their input


@contextmanager
def gpu_kernels() -> Iterator[None]:
    """Attention by the memory-efficient kernel, which keeps no weights, with dropout either; norms in float32.

    The functions are replaced in ``torch.nn.functional``, where the layers look them up: a torch function mode would
    be off while activation checkpoints recompute.
    """
    originals = {name: getattr(F, name) for name in ("scaled_dot_product_attention", *_IN_FLOAT32)}
    try:
        F.scaled_dot_product_attention = _efficient_attention
        for name in _IN_FLOAT32:
            setattr(F, name, partial(_in_float32, originals[name]))
        yield
    finally:
        for name, function in originals.items():
            setattr(F, name, function)


def _efficient_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    bias = None if attn_mask is None else attn_mask.to(query.dtype).expand(*query.shape[:3], key.shape[2])
    needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    return kernel(query, key, value, bias, needs_grad, dropout_p, is_causal)[0]


def _in_float32(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    if not torch.is_autocast_enabled("cpu"):
        return function(*args, **kwargs)
    with torch.autocast("cpu", enabled=False):
        return function(*map(_to_float32, args), **{key: _to_float32(value) for key, value in kwargs.items()})


def _to_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
