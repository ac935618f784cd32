"""Frames of the YT-Temporal-1B videos of SA-Co/VEval: yt-dlp, then ffmpeg at 6 frames a second.

Source: spec/evaluation.md 8. Each clip is a stretch of a video; a clip is complete when it has exactly the number
of frames that the table promises, and then appears under its name in one step.
"""

import csv
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from sam3.arguments import CommandParser
from sam3.data.preparation.download import in_parallel
from sam3.data.preparation.programs import fetch_youtube_video, require_program, run_program
from sam3.errors import DataError
from sam3.io.files import read_json, write_text

_COLUMNS = ("saco_yt1b_id", "yt_video_id", "start_time", "end_time", "length")
FRAME_RATE, WIDTH = 6, 1080


@dataclass(frozen=True)
class Clip:
    """One line of the table of clips."""

    saco_id: str
    video_id: str
    start: str  # as ffmpeg reads it: seconds or hh:mm:ss
    end: str
    length: int  # frames


def read_clips(path: str | Path) -> list[Clip]:
    """The table: JSON (a list of objects), or columns separated by commas or tabs with a header.

    Raises:
        DataError: a column is missing, or a name that leads out of the folder.
    """
    path = Path(path)
    if path.suffix == ".json":
        rows = read_json(path)
    else:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in text.partition("\n")[0] else ","))
    clips = []
    for number, row in enumerate(rows):
        missing = [name for name in _COLUMNS if row.get(name) in (None, "")]
        if missing:
            raise DataError(f"{path}: line {number + 1} lacks {', '.join(missing)}")
        values = [str(row[name]) for name in _COLUMNS]
        if any("/" in value or value.startswith(".") for value in values[:2]):
            raise DataError(f"{path}: line {number + 1} names {values[0]!r}, {values[1]!r}; expected plain ids")
        clips.append(Clip(*values[:4], length=int(float(values[4]))))
    return clips


@dataclass(frozen=True)
class Downloader:
    """Turns clips into folders of frames.

    Args:
        data_dir: gets ``raw_videos/<id>.mp4`` and ``JPEGImages_6fps/<clip>/00000.jpg ...``.
        cookies_file: of a browser that may watch the videos.
        ffmpeg_timeout: seconds.
        sleep_interval, max_sleep_interval: seconds that yt-dlp waits between downloads.
    """

    data_dir: Path
    cookies_file: Path | None = None
    ffmpeg_timeout: float = 7200
    sleep_interval: int = 10
    max_sleep_interval: int = 30
    _locks: dict[str, Lock] = field(default_factory=dict, repr=False, compare=False)

    @property
    def frames(self) -> Path:
        return self.data_dir / "JPEGImages_6fps"

    def prepare(self, clip: Clip) -> bool:
        """Make the frames of ``clip``; False if they are complete already.

        Raises:
            ProgramError: yt-dlp or ffmpeg failed.
            DataError: the number of frames differs from the table; they are deleted again.
        """
        target = self.frames / clip.saco_id
        if target.is_dir():
            return False
        partial = self.frames / f".partial.{clip.saco_id}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            self._extract(self._video(clip), clip, partial)
            count = len(list(partial.glob("*.jpg")))
            if count != clip.length:
                raise DataError(f"{count} frames instead of {clip.length}; the video is no longer the annotated one")
            os.replace(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return True

    def _video(self, clip: Clip) -> Path:
        path = self.data_dir / "raw_videos" / f"{clip.video_id}.mp4"
        with self._locks.setdefault(clip.video_id, Lock()):  # several clips may come from one video
            if not path.is_file():
                pause = (self.sleep_interval, self.max_sleep_interval)
                fetch_youtube_video(clip.video_id, path, cookies_file=self.cookies_file, pause=pause)
        return path

    def _extract(self, video: Path, clip: Clip, folder: Path) -> None:
        run_program(
            [
                *["ffmpeg", "-nostdin", "-loglevel", "error", "-i", video, "-ss", clip.start, "-to", clip.end],
                *["-vf", f"fps={FRAME_RATE},scale={WIDTH}:-2", "-vsync", "0", "-q:v", "2", "-start_number", "0"],
                folder / "%05d.jpg",
            ],
            timeout=self.ffmpeg_timeout,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = CommandParser("saco_yt1b_downloader", description=__doc__)
    parser.add_argument("--data_dir", required=True, help="gets raw_videos/ and JPEGImages_6fps/")
    parser.add_argument("--yt1b_start_end_time_file", required=True, help="the table of clips")
    parser.add_argument("--cookies_file", help="cookies of a browser that may watch the videos")
    parser.add_argument("--yt1b_frame_prep_log_file", help="where failed clips are listed with their reasons")
    parser.add_argument("--ffmpeg_timeout", type=float, default=7200, metavar="SECONDS")
    parser.add_argument("--sleep_interval", type=int, default=10, metavar="SECONDS", help="least pause between videos")
    parser.add_argument("--max_sleep_interval", type=int, default=30, metavar="SECONDS")
    parser.add_argument("--num_workers", type=int, default=4, metavar="N", help="clips at once (4)")
    given = parser.parse_args(argv)
    for program in ("yt-dlp", "ffmpeg"):
        require_program(program)
    clips = {clip.saco_id: clip for clip in read_clips(given.yt1b_start_end_time_file)}
    downloader = Downloader(
        Path(given.data_dir),
        cookies_file=Path(given.cookies_file) if given.cookies_file else None,
        ffmpeg_timeout=given.ffmpeg_timeout,
        sleep_interval=given.sleep_interval,
        max_sleep_interval=given.max_sleep_interval,
    )
    outcome = in_parallel(
        clips, lambda name: downloader.prepare(clips[name]), workers=given.num_workers, title="YT-Temporal-1B"
    )
    if given.yt1b_frame_prep_log_file:
        lines = [f"{name}: {reason}\n" for name, reason in outcome.failed.items()]
        write_text(given.yt1b_frame_prep_log_file, "".join(lines))
    print(outcome.report("YT-Temporal-1B"))
    outcome.require_success("Videos disappear; saco_yt1b_annot_update.py takes them out of the annotations.")
    return 0
