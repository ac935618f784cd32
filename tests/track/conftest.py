"""Small videos, and a predictor whose answers are known: squares that move one pixel a frame."""

from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image

from sam3.io.frames import FrameSource
from sam3.model.sam3_video_predictor import TrackedVideoFrame
from sam3.track.clips import list_clips
from sam3.track.follower import Follower
from sam3.track.outputs import OUTPUTS
from sam3.track.run import ClipSummary, ClipWork, track_clips
from sam3.track.run_folder import TrackRun, TrackSettings

SIZE = (30, 41)  # height, width; odd, as videos never are and folders of frames may be


def picture(frame: int, size: tuple[int, int] = SIZE) -> Image.Image:
    pixels = np.full((*size, 3), 60, dtype=np.uint8)
    pixels[5:15, frame + 2 : frame + 12] = (200, 40, 40)
    return Image.fromarray(pixels)


def write_frames(folder: Path, number: int = 6, size: tuple[int, int] = SIZE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(number):
        picture(frame, size).save(folder / f"{frame}.png")
    return folder


def write_video(path: Path, count: int = 6, rate: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = 30, 40, "yuv420p"
        for frame in range(count):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(frame, (30, 40)))))
        container.mux(stream.encode())
    return path


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], rate


class Killed(BaseException):
    """What a kill looks like from inside."""


class KnownAnswers:
    """Stands in for a predictor: object 0 on all frames but the first, object 3 overlaps it from frame 2 on.

    Args:
        dies_at: the frame that is never answered.
    """

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at = dies_at
        self.asked: list[int] = []
        self.model = SimpleNamespace(detector=SimpleNamespace(device=torch.device("cpu")))

    def track(self, source: FrameSource, prompts: list[str], **saving) -> Iterator[TrackedVideoFrame]:
        for index in takewhile(source.has, count()):
            if index == self.dies_at:
                raise Killed
            self.asked.append(index)
            source.frame(index)
            masks, ids = [], []
            for obj_id, first, top in ((0, 1, 5), (3, 2, 8)):
                if index >= first:
                    mask = np.zeros(source.size, dtype=bool)
                    mask[top : top + 10, index + 2 : index + 12] = True
                    masks.append(mask)
                    ids.append(obj_id)
            yield TrackedVideoFrame(
                index=index,
                ids=ids,
                labels=[prompts[0], prompts[-1]][: len(ids)],
                scores=np.array([0.9, 0.75], dtype=np.float32)[: len(ids)],
                masks=np.array(masks).reshape(len(ids), *source.size),
            )


PHRASES = ["red square", "kleine Öse"]


def follow(
    output: Path,
    *sources: Path | str,
    predictor: KnownAnswers | None = None,
    kinds: tuple[str, ...] = tuple(OUTPUTS),
    **options,
) -> ClipSummary:
    """A run with known answers."""
    run = TrackRun.open(output, TrackSettings("weights", PHRASES, 56, "fp32"))
    work = ClipWork(
        run,
        lambda: Follower(predictor or KnownAnswers(), PHRASES),
        [OUTPUTS[kind]() for kind in kinds],
        **{"progress": False, **options},
    )
    return track_clips(run.enter(list_clips(sources, exclude=output)), work)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "a b")
