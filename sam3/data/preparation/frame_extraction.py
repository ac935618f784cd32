"""Annotated frames out of the downloaded videos of SA-Co/Silver.

Source: spec/evaluation.md 8. ``images[].global_frame_idx`` counts decoded frames from 0; a frame whose size is not
``image_size`` is resized. Each video is decoded once.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sam3.arguments import CommandParser
from sam3.data.preparation.annotated_pictures import read_annotation_file, require_relative, save_picture
from sam3.data.preparation.download import in_parallel
from sam3.data.preparation.frame_settings import DATASETS, FrameSettings, read_frame_settings
from sam3.data.preparation.source_videos import find_video
from sam3.errors import DataError
from sam3.io.files import write_json

Entry = Mapping[str, Any]


def extract_frames(settings: FrameSettings, *, workers: int = 2) -> str:
    """Write every annotated frame that is not there yet.

    With ``settings.update_annotations`` the entries of videos that cannot be read leave the annotation file (the
    old one stays beside it as ``*_original.json``); otherwise they are an error, after all others are written.

    Returns:
        A line that says how many.
    """
    content = read_annotation_file(settings.annotation_file)
    by_video: dict[str, list[Entry]] = {}
    for position, entry in enumerate(content["images"]):
        _check_entry(entry, f"{settings.annotation_file}: images[{position}]")
        by_video.setdefault(str(entry["original_video"]), []).append(entry)
    outcome = in_parallel(
        by_video,
        lambda name: extract_from_video(settings, name, by_video[name]),
        workers=workers,
        title=f"frames of {settings.name}",
    )
    line = outcome.report(f"videos of {settings.name}")
    if outcome.failed and settings.update_annotations:
        removed = without_videos(content, set(outcome.failed))
        backup = settings.annotation_file.with_name(f"{settings.annotation_file.stem}_original.json")
        if not backup.exists():
            write_json(backup, content)
        write_json(settings.annotation_file, removed)
        gone = len(content["images"]) - len(removed["images"])
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in outcome.failed.items())
        return f"{line}; {gone} entries left {settings.annotation_file} (the old file is {backup}):{reasons}"
    outcome.require_success("Run download_videos.py again, or set update_annotation_* in the settings.")
    return line


def extract_from_video(settings: FrameSettings, name: str, entries: Sequence[Entry]) -> bool:
    """Write the frames of one video; False if all of them are there already.

    Raises:
        DataError: no such video, one that cannot be decoded, or one that is too short.
    """
    wanted: dict[int, dict[str, Entry]] = {}
    for entry in entries:
        if not (settings.frames / entry["file_name"]).exists():
            wanted.setdefault(int(entry["global_frame_idx"]), {})[entry["file_name"]] = entry
    video = find_video(settings.videos, name)
    if wanted:
        if video is None:
            raise DataError(f"no video of this name in {settings.videos}")
        for index, image in decoded_frames(video, last=max(wanted)):
            for file_name, entry in wanted.pop(index, {}).items():
                height, width = entry.get("image_size") or (image.height, image.width)
                save_picture(image, settings.frames / file_name, (int(height), int(width)))
        if wanted:
            raise DataError(f"{video} ends before frame {min(wanted)}")
        made = True
    else:
        made = False
    if settings.remove_videos and video is not None:
        video.unlink()
    return made


def decoded_frames(path: Path, *, last: int) -> Iterator[tuple[int, Image.Image]]:
    """(index, RGB picture) of the frames 0..``last`` in the order in which they are shown.

    Raises:
        DataError: the file cannot be decoded.
    """
    import av

    try:
        with av.open(str(path)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                yield index, frame.to_image()
                if index >= last:
                    return
    except (av.error.FFmpegError, IndexError) as error:
        raise DataError(f"{path} cannot be decoded: {error}") from error


def without_videos(content: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """A copy of an annotation file without the pairs, and their annotations, of the named videos."""
    gone = {entry["id"] for entry in content["images"] if str(entry["original_video"]) in names}
    return {
        **content,
        "images": [entry for entry in content["images"] if entry["id"] not in gone],
        "annotations": [entry for entry in content.get("annotations", []) if entry["image_id"] not in gone],
    }


def _check_entry(entry: Entry, where: str) -> None:
    missing = [key for key in ("id", "file_name", "original_video", "global_frame_idx") if entry.get(key) is None]
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)}; is this a set of frames of videos?")
    require_relative(entry["file_name"], f"{where}.file_name")


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = CommandParser("extract_frames", description=__doc__)
    parser.add_argument("name", choices=DATASETS)
    parser.add_argument("--settings", default="CONFIG_FRAMES.yaml", help="where things lie (CONFIG_FRAMES.yaml)")
    parser.add_argument("--num_workers", type=int, default=2, metavar="N", help="videos decoded at once (2)")
    given = parser.parse_args(argv)
    print(extract_frames(read_frame_settings(given.settings, given.name), workers=given.num_workers))
    return 0
