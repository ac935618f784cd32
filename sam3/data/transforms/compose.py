"""The chain of transforms.

A transform is any callable ``(sample, rng) -> sample``. It draws random numbers from ``rng`` only and never
changes its input, so a sample depends on nothing but the seed it was given.
"""

import random
from collections.abc import Callable, Sequence

from sam3.data.samples import Sample

Transform = Callable[[Sample, random.Random], Sample]


class Compose:
    """Transforms applied one after the other, all drawing from the same generator."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"
