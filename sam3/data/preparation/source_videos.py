"""The videos behind four SA-Co/Silver data sets, by the programs of their owners.

Source: spec/evaluation.md 8. DROID: gsutil; SA-V: one tar; Ego4D: its command; YT-Temporal-1B: yt-dlp.
"""

import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sam3.arguments import CommandParser
from sam3.data.preparation.annotated_pictures import read_annotation_file, require_relative
from sam3.data.preparation.download import Client, in_parallel
from sam3.data.preparation.frame_settings import DATASETS, FrameSettings, read_frame_settings
from sam3.data.preparation.programs import fetch_youtube_video, require_program, run_program, whole_file
from sam3.errors import ConfigError, DataError

DROID_BUCKET = "gs://gresearch/robotics/droid_raw/1.0.1"
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm")
_TRIES = {"ego4d": 2, "yt1b": 3}


def videos_of(annotation_file: Path) -> list[str]:
    """Names of the source videos (``original_video``), in order of first appearance.

    Raises:
        DataError: an entry without one.
    """
    names = {}
    for position, entry in enumerate(read_annotation_file(annotation_file)["images"]):
        if not entry.get("original_video"):
            raise DataError(f"{annotation_file}: images[{position}] lacks original_video; is this a set of frames?")
        names[require_relative(str(entry["original_video"]), f"{annotation_file}: images[{position}]")] = None
    return list(names)


def find_video(folder: Path, name: str) -> Path | None:
    """The file of a video, whatever its container."""
    exact = folder / name
    candidates = [exact, *(exact.with_name(exact.name + suffix) for suffix in VIDEO_SUFFIXES)]
    return next((path for path in candidates if path.is_file()), None)


def droid_address(name: str) -> str:
    """Place of a DROID recording: its path with ``/`` was joined by ``_``, and the time of day holds ``_`` itself.

    ``LAB_outcome_date_<time of day>_recordings_MP4_camera`` -> ``LAB/outcome/date/<time of day>/recordings/MP4/camera``

    Raises:
        DataError: fewer parts than that.
    """
    parts = name.removesuffix(".mp4").split("_")
    if len(parts) < 7:
        raise DataError(f"{name!r} is not LAB_outcome_date_time_recordings_MP4_camera")
    path = [*parts[:3], "_".join(parts[3:-3]), *parts[-3:]]
    return f"{DROID_BUCKET}/{'/'.join(path)}.mp4"


def download_videos(settings: FrameSettings, *, client: Client | None = None) -> str:
    """Fetch every video that is not there yet; returns a line that says how many.

    Raises:
        DownloadError: some could not be fetched; the others are there.
    """
    names = videos_of(settings.annotation_file)
    settings.videos.mkdir(parents=True, exist_ok=True)
    if settings.name == "sav":
        return _unpack_sav(settings, names, client or Client())
    fetch = _FETCHERS[settings.name]
    require_program({"droid": "gsutil", "ego4d": "ego4d", "yt1b": "yt-dlp"}[settings.name])

    def work(name: str) -> bool:
        if find_video(settings.videos, name):
            return False
        _try_repeatedly(lambda: fetch(settings, name), _TRIES.get(settings.name, 1))
        return True

    outcome = in_parallel(names, work, workers=4, title=settings.name)
    line = outcome.report(settings.name)
    if settings.update_annotations:  # extract_frames takes entries without a video out of the annotation file
        return line + "".join(f"\n  {name}: {reason}" for name, reason in outcome.failed.items())
    outcome.require_success("Run again to try these once more.")
    return line


def _try_repeatedly(work: Callable[[], None], tries: int) -> None:
    for number in range(1, tries + 1):
        try:
            return work()
        except ValueError:  # every error of ours
            if number == tries:
                raise


def _fetch_droid(settings: FrameSettings, name: str) -> None:
    whole_file(
        settings.videos / f"{name.removesuffix('.mp4')}.mp4",
        lambda partial: run_program(["gsutil", "-q", "cp", droid_address(name), partial]),
    )


def _fetch_ego4d(settings: FrameSettings, name: str) -> None:
    uid = name.removesuffix(".mp4")
    work = settings.folder / "ego4d_download" / uid
    run_program(["ego4d", "--output_directory", work, "--datasets", "full_scale", "--video_uids", uid, "--yes"])
    found = next(iter(sorted(work.rglob(f"{uid}.mp4"))), None)
    if found is None:
        raise DataError(f"the ego4d command wrote no {uid}.mp4 below {work}")
    os.replace(found, settings.videos / f"{uid}.mp4")
    shutil.rmtree(work)


def _fetch_yt1b(settings: FrameSettings, name: str) -> None:
    video_id = name.removesuffix(".mp4")
    fetch_youtube_video(video_id, settings.videos / f"{video_id}.mp4", cookies_file=settings.cookies_file)


_FETCHERS: dict[str, Callable[[FrameSettings, str], None]] = {
    "droid": _fetch_droid,
    "ego4d": _fetch_ego4d,
    "yt1b": _fetch_yt1b,
}


def _unpack_sav(settings: FrameSettings, names: Sequence[str], client: Client) -> str:
    """SA-V comes as one tar; only annotated members are unpacked, found by file name."""
    wanted = {name.removesuffix(".mp4"): name for name in names if find_video(settings.videos, name) is None}
    if not wanted:
        return f"sav: 0 new, {len(names)} already there, 0 failed"
    if not settings.sav_videos:
        raise ConfigError("sav_videos_fps_6_download_path must name the tar of SA-V videos: an address or a file")
    archive = Path(settings.sav_videos)
    if not archive.is_file():
        archive = settings.folder / "sav_videos.tar"
        client.download(settings.sav_videos, archive)
    count = len(wanted)
    with tarfile.open(archive) as content:
        for member in content:
            stem = Path(member.name).stem
            if member.isfile() and stem in wanted and Path(member.name).suffix == ".mp4":
                wanted.pop(stem)
                whole_file(settings.videos / f"{stem}.mp4", lambda partial, m=member: _copy(content, m, partial))
    if wanted:
        raise DataError(f"{archive} lacks {len(wanted)} videos, the first: {next(iter(wanted))}")
    return f"sav: {count} new, {len(names) - count} already there, 0 failed"


def _copy(content: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    with content.extractfile(member) as source, open(path, "wb") as file:
        shutil.copyfileobj(source, file)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = CommandParser("download_videos", description=__doc__)
    parser.add_argument("name", choices=DATASETS)
    parser.add_argument("--settings", default="CONFIG_FRAMES.yaml", help="where things lie (CONFIG_FRAMES.yaml)")
    given = parser.parse_args(argv)
    print(download_videos(read_frame_settings(given.settings, given.name)))
    return 0
