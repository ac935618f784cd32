"""Running means, memory, and the line that shows how a run is doing."""

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

import torch
from torch import Tensor

from sam3.train import distributed

GIGABYTE = 2**30


class RunningMeans:
    """Weighted means of named scalars; sums stay on their device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, float]] = {}

    def update(self, values: Mapping[str, Tensor | float], weight: float = 1.0) -> None:
        """Add one observation of each value."""
        for name, value in values.items():
            value = torch.as_tensor(value, dtype=torch.float32).detach() * weight
            old, count = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (old + value, count + weight)

    def means(self) -> dict[str, float]:
        """Mean of every name seen so far."""
        return {name: float(total) / count for name, (total, count) in self._sums.items()}

    def reset(self) -> None:
        self._sums.clear()

    def state_dict(self) -> dict[str, list[float]]:
        return {name: [float(total), count] for name, (total, count) in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums = {name: (torch.tensor(total), count) for name, (total, count) in state.items()}


def total_of_each(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sum of every scalar over all processes, which must have the same names; on the device."""
    if distributed.world_size() == 1:
        return dict(values)
    sums = distributed.total(torch.stack([value.float() for value in values.values()]))
    return dict(zip(values, sums, strict=True))


def memory_gb(device: torch.device) -> float:
    """Peak memory so far in GiB: of the CUDA device, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIGABYTE
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / GIGABYTE if sys.platform == "darwin" else peak / 2**20  # bytes there, KiB elsewhere


def clock_text(seconds: float) -> str:
    """``1d 02:03:04`` without leading zero days."""
    days, rest = divmod(max(0, round(seconds)), 86400)
    text = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}d {text}" if days else text


class Pace:
    """Time a step takes, smoothed, and what that means for the rest."""

    SMOOTHING = 0.95

    def __init__(self) -> None:
        self.step_seconds = 0.0
        self.images_per_second = 0.0
        self._updates = 0

    def update(self, seconds: float, images: int) -> None:
        """One step of ``images`` images took ``seconds``."""
        keep = min(self.SMOOTHING, self._updates / (self._updates + 1))
        self.step_seconds = keep * self.step_seconds + (1 - keep) * seconds
        self.images_per_second = keep * self.images_per_second + (1 - keep) * images / max(seconds, 1e-9)
        self._updates += 1

    def remaining(self, steps: int) -> str:
        """Time that ``steps`` more steps take."""
        return clock_text(steps * self.step_seconds)


class LiveLine:
    """One line of the terminal that is written again and again; silent where there is no terminal."""

    PERIOD = 0.1  # seconds

    def __init__(self, wanted: bool | str = "auto", stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.enabled = self.stream.isatty() if wanted == "auto" else bool(wanted)
        self._last_shown = 0.0

    @property
    def is_due(self) -> bool:
        """Whether a new text would be shown: at most ten times a second."""
        return self.enabled and time.monotonic() - self._last_shown >= self.PERIOD

    def show(self, text: str) -> None:
        """Replace the line, if it is due."""
        if not self.is_due:
            return
        self._last_shown = time.monotonic()
        width = shutil.get_terminal_size().columns - 1
        self.stream.write("\r" + text[:width].ljust(width))
        self.stream.flush()

    def clear(self) -> None:
        """Leave the line empty, for other output."""
        if self.enabled and self._last_shown:
            self.stream.write("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")
            self.stream.flush()
