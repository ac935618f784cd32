"""Training clips made of stills with instance masks: the picture drifts, cut-out objects and bars move across it.

For those who have annotated pictures but no videos. Every layer (the picture, objects cut out of other pictures, plain
bars) moves by an affine map that changes evenly over the frames; what a layer in front covers is taken from the masks
of those behind it. Legend: T frames, K objects, S side of the input.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam3.data.clips import Clip, PromptChances, draw_prompts
from sam3.data.coco import ImageRecord, read_coco, records_of
from sam3.errors import DataError
from sam3.io.images import open_image
from sam3.ops import rle
from sam3.ops.images import normalize, resize_square_uint8


@dataclass(frozen=True)
class Motion:
    """How far things move in the course of a clip; shifts are shares of the side."""

    camera_shift: float = 0.1
    camera_turn: float = 8.0  # degrees
    camera_zoom: float = 0.1
    object_shift: float = 0.7  # of cut-out objects and bars
    object_turn: float = 20.0
    object_zoom: float = 0.2


class StillClips:
    """A clip of each picture an epoch, different every time.

    Args:
        ann_file: COCO file with masks.
        img_folder: where its pictures lie.
        num_frames: T.
        resolution: S.
        max_objects: of a picture that are followed; a random choice of more.
        max_pasted: objects cut out of another picture that move across this one, and are followed, too.
        bar_chance: that a bar moves across.
        min_area: an object is followed if it shows so many pixels of the input on the first frame.
        motion: how far things move.
        prompts: kinds of the first prompts.
        mean, std: of the input, per channel.
    """

    def __init__(
        self,
        ann_file: str,
        img_folder: str,
        *,
        num_frames: int = 8,
        resolution: int = 1008,
        max_objects: int = 3,
        max_pasted: int = 2,
        bar_chance: float = 0.3,
        min_area: int = 30,
        motion: Motion | None = None,
        prompts: PromptChances | None = None,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
        seed: int = 0,
    ) -> None:
        self.ann_file, self.folder = ann_file, Path(img_folder)
        self.num_frames, self.resolution = num_frames, resolution
        self.max_objects, self.max_pasted, self.bar_chance = max_objects, max_pasted, bar_chance
        self.min_area, self.motion = min_area, motion or Motion()
        self.prompts = prompts or PromptChances()
        self.mean, self.std, self.seed = mean, std, seed
        coco = read_coco(ann_file)
        self.categories = coco.categories
        self._records = [record for record in records_of(coco, include_negatives=False) if _masks_of(record)]
        if not self._records:
            raise DataError(f"{ann_file}: no picture with the mask of an object")

    def __len__(self) -> int:
        return len(self._records)

    @property
    def num_images(self) -> int:
        return len(self._records)

    @property
    def num_queries(self) -> int:
        """Objects."""
        return sum(len(_masks_of(record)) for record in self._records)

    def sample(self, index: int, epoch: int) -> Clip:
        """A clip drawn from seed, index and epoch alone."""
        rng = np.random.default_rng([self.seed, index, epoch])
        record = self._records[index]
        pixels, own = self._read(record, rng, self.max_objects)
        num_pasted = int(rng.integers(0, self.max_pasted + 1))
        other, cut = self._read(self._records[int(rng.integers(len(self)))], rng, max(num_pasted, 1))
        frames, masks = self._background(pixels, own, rng)
        for mask in cut[:num_pasted]:
            frames, masks = self._paste(frames, masks, other, mask, rng, is_followed=True)
        if rng.uniform() < self.bar_chance:
            colour = torch.from_numpy(rng.uniform(0, 255, (3, 1, 1))).float()
            plain = colour.expand(3, self.resolution, self.resolution)
            frames, masks = self._paste(frames, masks, plain, self._bar(rng), rng, is_followed=False)
        return self._finished(record, frames, masks, rng)

    # --- layers ---

    def _read(self, record: ImageRecord, rng: np.random.Generator, limit: int) -> tuple[Tensor, Tensor]:
        """Pixels (3, S, S) in [0, 255] and at most ``limit`` masks (K, S, S), at random."""
        side = self.resolution
        picture = torch.from_numpy(np.array(open_image(self.folder / record.file_name))).permute(2, 0, 1)
        runs = _masks_of(record)
        chosen = [runs[place] for place in rng.permutation(len(runs))[:limit]]
        masks = torch.stack([torch.from_numpy(np.ascontiguousarray(rle.decode(run))) for run in chosen])
        masks = F.interpolate(masks[None].float(), (side, side), mode="nearest-exact")[0]
        return resize_square_uint8(picture, side).float(), masks

    def _background(self, pixels: Tensor, masks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(T, 3, S, S) and (K, T, S, S) of the drifting picture; its border is mirrored."""
        motion = self.motion
        maps = affine_path(self.num_frames, motion.camera_shift, motion.camera_turn, motion.camera_zoom, rng)
        frames = warp(pixels, maps, padding="reflection")
        return frames, warp(masks, maps).transpose(0, 1) > 0.5

    def _paste(
        self,
        frames: Tensor,
        masks: Tensor,
        pixels: Tensor,
        mask: Tensor,
        rng: np.random.Generator,
        *,
        is_followed: bool,
    ) -> tuple[Tensor, Tensor]:
        """What ``mask`` cuts out of ``pixels`` moves in front of everything."""
        motion = self.motion
        maps = affine_path(self.num_frames, motion.object_shift, motion.object_turn, motion.object_zoom, rng)
        alpha = warp(mask[None], maps)
        frames = frames * (1 - alpha) + warp(pixels, maps, padding="border") * alpha
        covers = alpha[:, 0] > 0.5
        masks = masks & ~covers
        return frames, torch.cat([masks, covers[None]]) if is_followed else masks

    def _bar(self, rng: np.random.Generator) -> Tensor:
        """(S, S): an upright or level bar through the middle."""
        side = self.resolution
        width = int(side * rng.uniform(0.1, 0.25))
        bar = torch.zeros(side, side)
        bar[:, (side - width) // 2 : (side + width) // 2] = 1
        return bar if rng.uniform() < 0.5 else bar.T

    def _finished(self, record: ImageRecord, frames: Tensor, masks: Tensor, rng: np.random.Generator) -> Clip:
        """With the objects that show on the first frame; if none does, the clip stands still and uncovered."""
        shown = masks[:, 0].flatten(1).sum(1) >= self.min_area
        if not shown.any():
            pixels, own = self._read(record, rng, self.max_objects)
            frames = pixels.expand(self.num_frames, -1, -1, -1)
            masks = (own > 0.5)[:, None].expand(-1, self.num_frames, -1, -1)
            shown = masks[:, 0].flatten(1).any(1)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        kinds, points = draw_prompts(masks[shown, 0], self.prompts, generator)
        images = normalize(frames.round().clamp(0, 255).to(torch.uint8), self.mean, self.std)
        return Clip(images, masks[shown], kinds, points, record.file_name)


def affine_path(
    num_frames: int, shift: float, turn: float, zoom: float, rng: np.random.Generator, *, start_share: float = 0.5
) -> Tensor:
    """(T, 2, 3) maps from the picture's coordinates (-1 .. 1) to those of the source, changing evenly.

    Args:
        shift: largest, as a share of the side.
        turn: largest, degrees.
        zoom: largest relative change of size.
        start_share: share of the largest values that the first frame may have.
    """
    limits = np.array([2 * shift, 2 * shift, np.radians(turn), zoom])
    first, last = start_share * rng.uniform(-limits, limits), rng.uniform(-limits, limits)
    steps = np.linspace(0, 1, num_frames)[:, None]
    x, y, angle, growth = (first + steps * (last - first)).T
    scale = np.exp(-growth)
    turned = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(-1, 2, 2)
    linear = scale[:, None, None] * turned
    offset = -linear @ np.stack([x, y], 1)[..., None]
    return torch.from_numpy(np.concatenate([linear, offset], 2)).float()


def warp(maps: Tensor, affine: Tensor, *, padding: str = "zeros") -> Tensor:
    """(C, S, S) under each of (T, 2, 3) -> (T, C, S, S), bilinear."""
    size = (len(affine), *maps.shape)
    grid = F.affine_grid(affine, list(size), align_corners=False)
    return F.grid_sample(maps.expand(size), grid, padding_mode=padding, align_corners=False)


def _masks_of(record: ImageRecord) -> list[rle.Rle]:
    """Masks of the objects; one that several phrases name counts once."""
    masks = [found.mask for found in record.objects if found.mask is not None and not found.is_crowd]
    return list({mask["counts"]: mask for mask in masks}.values())
