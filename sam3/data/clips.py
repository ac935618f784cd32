"""Short clips with followed objects, and batches of them, for the training of the tracker.

Legend: N clips, T frames, R followed objects of all clips, S side of the network's input.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

MASK, BOX, CLICK = 0, 1, 2  # how an object is pointed out on the first frame


@dataclass(frozen=True)
class Clip:
    """T frames and what is followed in them; every object shows on the first frame."""

    images: Tensor  # (T, 3, S, S) normalised
    masks: Tensor  # (K, T, S, S) bool
    prompt_kinds: Tensor  # (K,) long, MASK, BOX or CLICK
    points: Tensor  # (K, 2, 2) xy in pixels of the input: the corners of a box, or a click twice
    name: str
    skipped: tuple[str, ...] = ()  # why clips that this one stands in for could not be used


@dataclass
class ClipOrigin:
    """Where the clips of a batch come from, for messages."""

    file_names: list[str] = field(default_factory=list)  # one per clip


@dataclass
class ClipBatch:
    """N clips of T frames each."""

    images: Tensor  # (N, T, 3, S, S)
    clip_index: Tensor  # (R,) long, which clip shows the object
    masks: Tensor  # (R, T, S, S) bool
    prompt_kinds: Tensor  # (R,)
    points: Tensor  # (R, 2, 2)
    origin: ClipOrigin = field(default_factory=ClipOrigin)
    phrases: list[str] = field(default_factory=list)  # none: objects are pointed out, not named

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.images)

    @property
    def num_objects(self) -> int:
        return len(self.masks)

    @property
    def num_prompts(self) -> int:
        return len(self.masks)

    def select(self, clips: Sequence[int]) -> "ClipBatch":
        """The clips of these numbers with their objects."""
        rows = torch.cat([(self.clip_index == clip).nonzero().flatten() for clip in clips])
        place = {clip: index for index, clip in enumerate(clips)}
        own = torch.tensor([place[int(clip)] for clip in self.clip_index[rows]], device=self.clip_index.device)
        return ClipBatch(
            self.images[list(clips)],
            own,
            self.masks[rows],
            self.prompt_kinds[rows],
            self.points[rows],
            ClipOrigin([self.origin.file_names[clip] for clip in clips]),
        )


def collate_clips(clips: Sequence[Clip]) -> ClipBatch:
    """Clips of one length and size side by side, their objects in one row."""
    counts = torch.tensor([len(clip.masks) for clip in clips])
    return ClipBatch(
        images=torch.stack([clip.images for clip in clips]),
        clip_index=torch.arange(len(clips)).repeat_interleave(counts),
        masks=torch.cat([clip.masks for clip in clips]),
        prompt_kinds=torch.cat([clip.prompt_kinds for clip in clips]),
        points=torch.cat([clip.points for clip in clips]),
        origin=ClipOrigin([clip.name for clip in clips]),
    )


@dataclass(frozen=True)
class PromptChances:
    """How often objects are pointed out by a mask, a box or a click on the first frame; need not add up to 1."""

    mask: float = 0.6
    box: float = 0.2
    click: float = 0.2


def draw_prompts(masks: Tensor, chances: PromptChances, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Kinds (K,) and points (K, 2, 2) for objects that all show.

    Args:
        masks: (K, S, S) bool, the first frame.
    """
    weights = torch.tensor([chances.mask, chances.box, chances.click], dtype=torch.float32)
    kinds = torch.multinomial(weights, len(masks), replacement=True, generator=generator)
    points = torch.zeros(len(masks), 2, 2)
    for row, (kind, mask) in enumerate(zip(kinds.tolist(), masks, strict=True)):
        ys, xs = mask.nonzero().unbind(1)
        if kind == BOX:
            jitter = 1.5 * torch.rand(2, 2, generator=generator) - 0.75
            points[row] = jitter + torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).reshape(2, 2)
        elif kind == CLICK:
            pixel = int(torch.randint(len(xs), (1,), generator=generator))
            points[row] = torch.stack([xs[pixel], ys[pixel]])
    return kinds, points
