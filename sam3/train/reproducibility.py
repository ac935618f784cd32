"""Seeds, and the state of every random generator as plain values that a checkpoint can hold."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from sam3.train import distributed


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third parties draw from the global generator
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """State of all generators; holds only what ``torch.load(weights_only=True)`` accepts."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "python": {"version": version, "words": list(words), "gauss": gauss},
        "numpy": {
            "kind": str(kind),
            "keys": torch.from_numpy(keys.astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device) for device in _cuda_devices()],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Inverse of :func:`random_state`; CUDA states are restored where there are as many devices."""
    python, numpy_state = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"]), python["gauss"]))
    keys = numpy_state["keys"].numpy().astype(np.uint32)
    rest = (numpy_state["position"], numpy_state["has_gauss"], numpy_state["cached"])
    np.random.set_state((numpy_state["kind"], keys, *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == len(_cuda_devices()):
        for device, saved in zip(_cuda_devices(), state["cuda"], strict=True):
            torch.cuda.set_rng_state(saved.cpu(), device)


def restore_own_random_state(states: Sequence[Mapping[str, Any]], seed: int) -> None:
    """Take this process's state from those of all processes of the saved run.

    A process that the saved run did not have draws from ``seed`` on.
    """
    if distributed.rank() < len(states):
        restore_random_state(states[distributed.rank()])
    else:
        seed_everything(seed)


def _cuda_devices() -> list[int]:
    """All devices, or its own where every process has one: touching the others would take their memory."""
    if not torch.cuda.is_available():
        return []
    return list(range(torch.cuda.device_count())) if distributed.world_size() == 1 else [torch.cuda.current_device()]


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Whatever the block draws, training goes on as if it had not run."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
