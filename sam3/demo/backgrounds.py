"""Muted, textured backgrounds for the demonstration's pictures.

Every function returns a pattern of shape (H, W) with values in [0, 1]; :func:`background` picks
one, tints it and adds grain. Colours stay close to grey, so that the words' colours belong to the
shapes alone.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

Pattern = Callable[[np.random.Generator, int, int], np.ndarray]


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture without objects: float32 (H, W, 3) in [0, 255]."""
    pattern = PATTERNS[rng.integers(len(PATTERNS))](rng, height, width)
    brightness = rng.uniform(70, 185)
    contrast = rng.uniform(15, 60)
    tint = rng.uniform(-14, 14, 3)
    grain = rng.normal(0, rng.uniform(2, 9), (height, width, 3))
    return (brightness + contrast * (pattern[..., None] - 0.5) + tint + grain).clip(0, 255).astype(np.float32)


def plain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One even tone."""
    return np.full((height, width), rng.uniform())


def gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """From dark to light along a random direction."""
    return _unit(_ramp(rng.uniform(0, 2 * np.pi), height, width))


def stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Waves along a random direction, 8 to 30 pixels long."""
    ramp = _ramp(rng.uniform(0, 2 * np.pi), height, width)
    return 0.5 + 0.5 * np.sin(2 * np.pi * ramp / rng.uniform(8, 30) + rng.uniform(0, 2 * np.pi))


def checks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A chessboard with fields of 8 to 24 pixels."""
    side = int(rng.integers(8, 25))
    rows, columns = np.mgrid[:height, :width]
    return ((rows // side + columns // side) % 2).astype(float)


def clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth noise: a coarse random grid, enlarged."""
    cells = int(rng.integers(3, 12))
    coarse = rng.integers(0, 256, (cells, cells), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) / 255.0


PATTERNS: tuple[Pattern, ...] = (plain, gradient, stripes, checks, clouds)


def _ramp(angle: float, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return rows * np.sin(angle) + columns * np.cos(angle)


def _unit(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / max(float(np.ptp(values)), 1e-6)
