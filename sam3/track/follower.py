"""Frames in, followed objects out; every so often what is known of the video is saved, to go on from after a kill."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from sam3.errors import DataError
from sam3.io.frames import FrameSource
from sam3.model.sam3_video_predictor import Sam3VideoPredictor, TrackedVideoFrame
from sam3.track.clip_folder import ClipFolder
from sam3.track.clip_frames import ClipFrame

_log = logging.getLogger(__name__)

SESSION = "session.safetensors"
SAVE_EVERY = 100  # frames; so many are followed twice after a kill


@dataclass
class Follower:
    """
    Args:
        predictor: of videos.
        phrases: what is looked for, all in one pass over the frames.
        dtype: of mixed precision; ``None`` computes in float32.
        save_every: frames between two saved sessions.
    """

    predictor: Sam3VideoPredictor
    phrases: list[str]
    dtype: torch.dtype | None = None
    save_every: int = SAVE_EVERY

    def follow(self, source: FrameSource, folder: ClipFolder) -> Iterator[ClipFrame]:
        """The frames that the folder lacks, in order, perhaps after some that it has."""
        session = folder.root / SESSION
        if session.exists() and folder.num_stored and source.num_frames is not None:
            try:
                yield from self._frames(source, session, resume=True, stored=folder.num_stored)
                return
            except _UnusableSession as reason:
                _log.warning("%s: %s; this video is followed from its beginning", session, reason)
        yield from self._frames(source, session)

    def forget(self, folder: ClipFolder) -> None:
        """The video is finished."""
        (folder.root / SESSION).unlink(missing_ok=True)

    def _frames(
        self, source: FrameSource, session: Path, *, resume: bool = False, stored: int = 0
    ) -> Iterator[ClipFrame]:
        options = {"save_to": session, "save_every": self.save_every}
        frames = self.predictor.track(source, self.phrases, **options, resume_from=session if resume else None)
        is_first = resume
        while True:
            try:
                frame = self._next(frames)
            except DataError as error:
                if is_first:
                    raise _UnusableSession(str(error)) from error
                raise
            if frame is None:
                return
            if is_first and frame.index > stored:
                raise _UnusableSession(f"it goes on at frame {frame.index}, but only {stored} frames are stored")
            if is_first:
                _log.info("goes on at frame %d, from %s", frame.index, session)
            is_first = False
            yield ClipFrame.of(frame)

    def _next(self, frames: Iterator[TrackedVideoFrame]) -> TrackedVideoFrame | None:
        device = self.predictor.model.detector.device
        with torch.autocast(device.type, self.dtype, enabled=self.dtype is not None):
            return next(frames, None)


class _UnusableSession(Exception):
    """A saved session that is not the one of the stored frames."""
