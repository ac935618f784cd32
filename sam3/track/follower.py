"""Frames in, followed objects out."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sam3.io.frames import FrameSource
from sam3.model.sam3_video_predictor import Sam3VideoPredictor
from sam3.track.clip_folder import ClipFolder
from sam3.track.clip_frames import ClipFrame


@dataclass
class Follower:
    """
    Args:
        predictor: of videos.
        phrases: what is looked for, all in one pass over the frames.
        dtype: of mixed precision; ``None`` computes in float32.
    """

    predictor: Sam3VideoPredictor
    phrases: list[str]
    dtype: torch.dtype | None = None

    def follow(self, source: FrameSource, folder: ClipFolder) -> Iterator[ClipFrame]:
        """The objects of every frame, in order."""
        frames = self.predictor.track(source, prompts=self.phrases)
        while True:
            with self._precision():
                frame = next(frames, None)
            if frame is None:
                return
            yield ClipFrame.of(frame)

    def forget(self, folder: ClipFolder) -> None:
        """The video is finished."""

    def _precision(self) -> torch.autocast:
        device = self.predictor.model.detector.device
        return torch.autocast(device.type, self.dtype, enabled=self.dtype is not None)
