"""The files of a video that people and other tools open.

Each output is opened for one video and then given its frames in order; its file is there when it is whole:

    overlay.mp4                      the video with masks, outlines, boxes, ids and phrases
    masks/<id>_<phrase>/<frame>.png  one 8-bit mask (0 and 255) per object and frame; objects of different phrases may
                                     overlap, so one indexed picture could not hold them. masks/index.json lists them
    masklets.json                    every object through the whole video, in the prediction format of SA-Co/VEval
    objects.csv                      one row per frame and object
"""

import csv
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, TypeAlias

from PIL import Image

from sam3.eval.masklet_file import write_masklets
from sam3.io.files import atomic_path, write_json
from sam3.io.overlay import draw_overlay, palette_colour
from sam3.io.video_files import Mp4Writer
from sam3.predict.writers import mask_picture, name_of_file
from sam3.structures import FoundObject
from sam3.track.clip_folder import ClipFolder
from sam3.track.clip_frames import ClipFrame, ClipObject

Picture: TypeAlias = Callable[[], Image.Image]  # decodes the frame; an output that needs none never calls it
Write: TypeAlias = Callable[[ClipFrame, Picture], None]

COLUMNS = ("frame", "seconds", "id", "phrase", "score", "x", "y", "width", "height", "area")


@dataclass(frozen=True)
class OpenClip:
    """What outputs know of the video they are opened for."""

    folder: ClipFolder
    video_id: int
    categories: dict[str, int]  # phrase -> number
    rate: Fraction  # frames per second

    @property
    def root(self) -> Path:
        return self.folder.root


class Output(Protocol):
    """One kind of file."""

    needs_pictures: bool

    def path(self, root: Path) -> Path:
        """What exists when everything is written."""
        ...

    def open(self, clip: OpenClip) -> AbstractContextManager[Write]:
        """Gives what takes the frames; leaving without an error makes the file whole."""
        ...


class Overlay:
    """``overlay.mp4``, at the frame rate of the source; each object keeps its colour."""

    needs_pictures = True

    def path(self, root: Path) -> Path:
        return root / "overlay.mp4"

    @contextmanager
    def open(self, clip: OpenClip) -> Iterator[Write]:
        with atomic_path(self.path(clip.root)) as temporary, Mp4Writer(temporary, clip.rate) as video:

            def write(frame: ClipFrame, picture: Picture) -> None:
                video.write(drawn(frame, picture()))

            yield write


def drawn(frame: ClipFrame, picture: Image.Image) -> Image.Image:
    """The objects of a frame on its picture."""
    titled = [
        FoundObject(item.title, item.found.score, item.found.box, item.found.segmentation) for item in frame.objects
    ]
    return draw_overlay(picture, titled, {item.title: palette_colour(item.obj_id) for item in frame.objects})


class Masks:
    """``masks/``."""

    needs_pictures = False

    def path(self, root: Path) -> Path:
        return root / "masks" / "index.json"

    @contextmanager
    def open(self, clip: OpenClip) -> Iterator[Write]:
        listed: dict[int, dict] = {}
        folder = self.path(clip.root).parent
        _remove_masks(folder)

        def write(frame: ClipFrame, picture: Picture) -> None:
            for item in frame.objects:
                entry = listed.setdefault(item.obj_id, _listing(item, frame.index))
                entry["frames"] += 1
                entry["last_frame"] = frame.index
                with atomic_path(folder / entry["folder"] / f"{frame.index:06d}.png") as temporary:
                    mask_picture(item.found, frame.size[::-1]).save(temporary, compress_type=zlib.Z_RLE)

        yield write
        write_json(self.path(clip.root), [listed[obj_id] for obj_id in sorted(listed)], indent=1)


def _remove_masks(folder: Path) -> None:
    """Masks of an earlier run; there may have been more of them."""
    for path in (*folder.glob("[0-9]*_*/[0-9]*.png"), folder / "index.json"):
        path.unlink(missing_ok=True)


def _listing(item: ClipObject, frame: int) -> dict:
    name = f"{item.obj_id:03d}_{name_of_file(item.found.label)}"
    return {
        "id": item.obj_id,
        "phrase": item.found.label,
        "score": item.found.score,
        "folder": name,
        "frames": 0,
        "first_frame": frame,
        "last_frame": frame,
    }


class Masklets:
    """``masklets.json``, assembled from the journal when the last frame is in it."""

    needs_pictures = False

    def path(self, root: Path) -> Path:
        return root / "masklets.json"

    @contextmanager
    def open(self, clip: OpenClip) -> Iterator[Write]:
        yield lambda frame, picture: None
        write_masklets(self.path(clip.root), clip.folder.masklets(clip.video_id, clip.categories))


class Table:
    """``objects.csv``; boxes and areas in pixels."""

    needs_pictures = False

    def path(self, root: Path) -> Path:
        return root / "objects.csv"

    @contextmanager
    def open(self, clip: OpenClip) -> Iterator[Write]:
        with (
            atomic_path(self.path(clip.root)) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as stream,
        ):
            rows = csv.writer(stream)
            rows.writerow(COLUMNS)

            def write(frame: ClipFrame, picture: Picture) -> None:
                seconds = round(float(frame.index / clip.rate), 3)
                for item in frame.objects:
                    x0, y0, x1, y1 = (int(value) for value in item.found.box)
                    place = (x0, y0, x1 - x0, y1 - y0, item.area)
                    rows.writerow((frame.index, seconds, item.obj_id, item.found.label, item.found.score, *place))

            yield write


OUTPUTS: dict[str, type[Output]] = {"overlay": Overlay, "masks": Masks, "masklets": Masklets, "csv": Table}
