"""Training clips cut from videos with masklets (the ground truth format of SA-Co/VEval)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sam3.data.clips import Clip, PromptChances, draw_prompts
from sam3.data.saco_video import TruthMasklet, Video, read_ground_truth
from sam3.errors import DataError
from sam3.io.images import open_image
from sam3.ops import rle
from sam3.ops.images import preprocess

_KEPT_FRAMES = 6000  # decoded pictures that stay in memory, if they are small
_SMALL = 256 * 256


class VideoClips:
    """One clip of each video an epoch: other frames, speed and direction every time.

    Args:
        ann_file: ground truth file with masks.
        img_folder: where its ``file_names`` lie.
        num_frames: T.
        resolution: S.
        max_stride: neighbouring frames of a clip are at most so many frames apart.
        max_objects: of a clip; a random choice of more.
        min_area: an object is followed if it shows so many pixels of the input on the first frame.
        prompts: kinds of the first prompts.
        repeats: clips of a video an epoch.
        mean, std: of the input, per channel.
    """

    def __init__(
        self,
        ann_file: str,
        img_folder: str,
        *,
        num_frames: int = 8,
        resolution: int = 1008,
        max_stride: int = 2,
        max_objects: int = 3,
        min_area: int = 30,
        prompts: PromptChances | None = None,
        repeats: int = 1,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
        seed: int = 0,
    ) -> None:
        self.ann_file = ann_file
        self.folder = Path(img_folder)
        self.num_frames, self.resolution = num_frames, resolution
        self.max_stride, self.max_objects, self.min_area = max_stride, max_objects, min_area
        self.prompts = prompts or PromptChances()
        self.mean, self.std, self.seed, self.repeats = mean, std, seed, repeats
        truth = read_ground_truth(ann_file)
        self.categories = truth.categories
        self._videos = [(video, _followable(truth.of_video(video.id))) for video in truth.videos.values()]
        self._videos = [(video, tracks) for video, tracks in self._videos if tracks and len(video) >= 2]
        if not self._videos:
            raise DataError(f"{ann_file}: no video of two frames or more with masks of an object")
        self._kept: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._videos) * self.repeats

    @property
    def num_images(self) -> int:
        return sum(len(video) for video, _ in self._videos)

    @property
    def num_queries(self) -> int:
        """Objects."""
        return sum(len(tracks) for _, tracks in self._videos)

    def sample(self, index: int, epoch: int) -> Clip:
        """A clip of a video, drawn from seed, index and epoch alone."""
        video, tracks = self._videos[index % len(self._videos)]
        rng = np.random.default_rng([self.seed, index, epoch])
        for _ in range(20):
            frames = self._draw_frames(len(video), rng)
            shown = [track for track in tracks if self._area(track, frames[0], video) >= self.min_area]
            if shown:
                break
        else:  # nothing large enough where we looked: begin where an object shows most
            shown = [max(tracks, key=lambda track: track.masks.areas.max())]
            first = int(shown[0].masks.areas.argmax())
            frames = [min(first + step, len(video) - 1) for step in range(self.num_frames)]
        chosen = [shown[place] for place in rng.permutation(len(shown))[: self.max_objects]]
        return self._clip(video, chosen, frames, rng)

    def _draw_frames(self, length: int, rng: np.random.Generator) -> list[int]:
        """T frame numbers at even distance, forward or backward; a short video stands still at its end."""
        stride = int(rng.integers(1, self.max_stride + 1))
        span = (self.num_frames - 1) * stride
        first = int(rng.integers(0, max(length - span, 1)))
        frames = [min(first + step * stride, length - 1) for step in range(self.num_frames)]
        return frames[::-1] if rng.uniform() < 0.5 else frames

    def _clip(self, video: Video, tracks: list[TruthMasklet], frames: list[int], rng: np.random.Generator) -> Clip:
        images = torch.stack([self._pixels(video.file_names[frame]) for frame in frames])
        masks = torch.stack([torch.stack([self._mask(track, frame, video) for frame in frames]) for track in tracks])
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        kinds, points = draw_prompts(masks[:, 0], self.prompts, generator)
        return Clip(images, masks, kinds, points, video.name)

    def _pixels(self, name: str) -> Tensor:
        if name not in self._kept:
            pixels = preprocess(open_image(self.folder / name), self.resolution, self.mean, self.std)
            if self.resolution**2 > _SMALL or len(self._kept) >= _KEPT_FRAMES:
                return pixels
            self._kept[name] = pixels
        return self._kept[name]

    def _area(self, track: TruthMasklet, frame: int, video: Video) -> float:
        """Pixels of the input."""
        return float(track.masks.areas[frame]) * self.resolution**2 / (video.height * video.width)

    def _mask(self, track: TruthMasklet, frame: int, video: Video) -> Tensor:
        """(S, S) bool."""
        side = self.resolution
        if not track.masks.areas[frame]:
            return torch.zeros(side, side, dtype=torch.bool)
        run = {"size": [video.height, video.width], "counts": track.masks.counts()[frame]}
        mask = torch.from_numpy(np.ascontiguousarray(rle.decode(run)))
        if mask.shape == (side, side):
            return mask
        return torch.nn.functional.interpolate(mask[None, None].float(), (side, side), mode="nearest-exact")[0, 0] > 0


def _followable(tracks: list[TruthMasklet]) -> list[TruthMasklet]:
    """Objects with masks; one that several phrases name counts once."""
    shown = [track for track in tracks if track.masks is not None and not track.is_crowd and track.masks.areas.any()]
    return list({tuple(track.masks.counts()): track for track in shown}.values())
