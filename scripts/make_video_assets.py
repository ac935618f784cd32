#!/usr/bin/env python
"""The moving pictures of the README.

python scripts/make_video_assets.py clip assets/shapes.mp4             a clip of the video world
python scripts/make_video_assets.py strip FOLLOWED/shapes strip.png    frames of what ``sam3 track`` wrote; .gif moves
"""

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone that is not installed

from sam3.demo.sheet import contact_sheet
from sam3.demo.video_world import CROSSING, KINDS, draw_clip
from sam3.demo.world import World
from sam3.errors import DataError, run_command
from sam3.io.files import atomic_path
from sam3.io.video_files import Mp4Writer

RATE = Fraction(8)  # frames per second


def main(argv: Sequence[str] | None = None) -> int:
    """Write one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(dest="job", required=True)
    clip = jobs.add_parser("clip", help="a clip of the video world")
    clip.add_argument("output", type=Path)
    clip.add_argument("--kind", choices=KINDS, default=CROSSING)
    clip.add_argument("--frames", type=int, default=24)
    clip.add_argument("--seed", type=int, default=0)
    strip = jobs.add_parser("strip", help="frames of a tracked video")
    strip.add_argument("results", type=Path, help="folder of one video in the output of sam3 track")
    strip.add_argument("output", type=Path, help=".png: frames side by side; .gif: all frames in motion")
    strip.add_argument("--count", type=int, default=6, help="frames of a .png")
    strip.add_argument("--tile", type=int, default=240, help="pixels a side")
    arguments = parser.parse_args(argv)
    if arguments.job == "clip":
        write_clip(arguments.output, arguments.kind, arguments.frames, arguments.seed)
    else:
        write_strip(arguments.results, arguments.output, arguments.count, arguments.tile)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1024:.0f} KiB")
    return 0


def write_clip(path: Path, kind: str, num_frames: int, seed: int) -> None:
    """A clip as an MP4 file."""
    clip = draw_clip(World(), kind, num_frames, np.random.default_rng(seed))
    with atomic_path(path) as temporary, Mp4Writer(temporary, RATE) as video:
        for pixels in clip.frames:
            video.write(Image.fromarray(pixels))


def write_strip(results: Path, path: Path, count: int, tile: int) -> None:
    """Frames of ``overlay.mp4``.

    Raises:
        DataError: there is no such file.
    """
    overlay = results / "overlay.mp4"
    if not overlay.is_file():
        raise DataError(f"{overlay} does not exist; run sam3 track first, with its overlay")
    with av.open(str(overlay)) as container:
        shown = [frame.to_image() for frame in container.decode(video=0)]
    with atomic_path(path) as temporary:
        if path.suffix == ".gif":
            small = [picture.resize((tile, tile), Image.Resampling.LANCZOS).quantize(64) for picture in shown]
            duration = round(1000 / RATE)
            small[0].save(temporary, save_all=True, append_images=small[1:], duration=duration, loop=0)
        else:
            chosen = [shown[index] for index in np.linspace(0, len(shown) - 1, count).round().astype(int)]
            contact_sheet(chosen, columns=count, tile=tile).save(temporary, optimize=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
