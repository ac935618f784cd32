"""Pairs of a video and a phrase as strips: what was annotated above what was predicted, a few frames side by side.

Every annotated track has a colour; a predicted track has that of one object which it follows (each object gives its
colour to one track, so that most frames agree), or one of its own. A change of colour on an object is a change of
identity.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sam3.data.masklets import Masklet
from sam3.data.saco_video import Video
from sam3.errors import DataError
from sam3.eval.matching import assign
from sam3.eval.video_errors import VideoPairErrors
from sam3.eval.video_pairs import Kind
from sam3.io.images import open_image
from sam3.io.overlay import draw_overlay, label_colours
from sam3.ops import rle
from sam3.report.html import Markup, image, missing, number
from sam3.report.video_analysis import VideoSubsetAnalysis, tracks_of
from sam3.structures import FoundObject

FRAMES = 4  # of a strip
WIDTH = 280  # pixels of one frame in it
GAP = 4


def worst_strips(analysis: VideoSubsetAnalysis, count: int, kind: Kind) -> Iterator[tuple[Markup, str]]:
    """(strip, caption) of the worst pairs; of a video whose frames cannot be read, the reason."""
    for entry in analysis.worst(count):
        video = analysis.truth.videos[entry.pair.video_id]
        caption = f"“{analysis.truth.phrase(entry.pair)}”, {video.name}: {describe(entry)}"
        truths, predictions = tracks_of(analysis, entry)
        frames = shown_frames(truths, predictions, len(video))
        try:
            strip = draw_strip(analysis.subset.frame_folder, video, frames, truths, predictions, entry.followed, kind)
        except DataError as error:
            yield missing(str(error)), caption
            continue
        yield image(strip, caption), f"{caption}; frames {', '.join(map(str, frames))}"


def describe(entry: VideoPairErrors) -> str:
    """The errors of a pair in words."""
    objects, tracks = entry.followed.shape
    parts = [f"objects: {objects}, tracks: {tracks}"]
    parts += [f"{number(value, 1)} {kind.value}" for kind, value in entry.errors.number.items() if value]
    return ", ".join(parts)


def shown_frames(truths: Sequence[Masklet], predictions: Sequence[Masklet], num_frames: int) -> list[int]:
    """A few frames in which there is something, spread evenly over time."""
    shown = np.zeros(num_frames, dtype=bool)
    for track in (*truths, *predictions):
        shown |= track.boxes.any(axis=1)
    frames = np.flatnonzero(shown) if shown.any() else np.arange(num_frames)
    return np.unique(frames[np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)]).tolist()


def track_labels(followed: np.ndarray) -> tuple[list[str], list[str]]:
    """A label for each annotated and each predicted track; equal ones are drawn in one colour.

    Args:
        followed: (G, P) frames in which tracks are matched.
    """
    truths = [f"object {row + 1}" for row in range(followed.shape[0])]
    predictions = [f"track {column + 1}" for column in range(followed.shape[1])]
    found = assign(followed)
    for row, column, frames in zip(found.predictions, found.objects, found.ious, strict=True):
        if frames:
            predictions[column] = truths[row]
    return truths, predictions


def draw_strip(
    folder: Path,
    video: Video,
    frames: Sequence[int],
    truths: Sequence[Masklet],
    predictions: Sequence[Masklet],
    followed: np.ndarray,
    kind: Kind,
) -> Image.Image:
    """Annotated tracks in the upper row, predicted ones in the lower one."""
    labels = track_labels(followed)
    colours = label_colours([*labels[0], *labels[1]])
    height = max(1, round(WIDTH * video.height / video.width))
    strip = Image.new("RGB", (len(frames) * (WIDTH + GAP) - GAP, 2 * height + GAP), (128, 128, 128))
    for column, frame in enumerate(frames):
        picture = open_image(folder / video.file_names[frame]).resize((video.width, video.height))
        for row, (tracks, names) in enumerate(zip((truths, predictions), labels, strict=True)):
            found = [
                shape
                for track, name in zip(tracks, names, strict=True)
                if (shape := _found(track, frame, name, video, kind)) is not None
            ]
            drawn = draw_overlay(picture, found, colours, with_scores=False).resize((WIDTH, height))
            strip.paste(drawn, (column * (WIDTH + GAP), row * (height + GAP)))
    return strip


def _found(track: Masklet, frame: int, label: str, video: Video, kind: Kind) -> FoundObject | None:
    """A mask, or a box filled in; ``None`` where the track is absent."""
    if kind == "segm":
        if not track.masks.areas[frame]:
            return None
        shape = rle.Rle(size=[video.height, video.width], counts=track.masks.counts()[frame].decode())
        x, y, w, h = rle.to_box_xywh(shape)
    else:
        x, y, w, h = track.boxes[frame].tolist()
        if w <= 0 or h <= 0:
            return None
        mask = np.zeros((video.height, video.width), dtype=bool)
        mask[max(0, int(y)) : int(np.ceil(y + h)), max(0, int(x)) : int(np.ceil(x + w))] = True
        shape = rle.encode(mask)
    return FoundObject(label=label, score=1.0, box=(x, y, x + w, y + h), segmentation=shape)
