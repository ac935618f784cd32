"""SA-Co/VEval annotations without the YT-Temporal-1B videos that can no longer be had.

Source: spec/evaluation.md 8: videos, annotations and pairs go, the table of phrases stays.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam3.arguments import CommandParser
from sam3.errors import DataError
from sam3.io.files import read_json, write_json, write_text


def missing_videos(content: Mapping[str, Any], media_dir: str | Path) -> list[str]:
    """Names of annotated videos of which a frame is missing below ``media_dir``."""
    media_dir = Path(media_dir)
    return [
        str(video["video_name"])
        for video in content["videos"]
        if not all((media_dir / name).is_file() for name in video["file_names"])
    ]


def without_videos(content: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A copy without the named videos, their masklets and their pairs."""
    gone = {video["id"] for video in content["videos"] if str(video["video_name"]) in set(names)}
    return {
        **content,
        "videos": [video for video in content["videos"] if video["id"] not in gone],
        "annotations": [entry for entry in content["annotations"] if int(entry["video_id"]) not in gone],
        "video_np_pairs": [pair for pair in content["video_np_pairs"] if int(pair["video_id"]) not in gone],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = CommandParser("saco_yt1b_annot_update", description=__doc__)
    parser.add_argument("--yt1b_media_dir", required=True, help="JPEGImages_6fps")
    parser.add_argument("--yt1b_input_annot_path", required=True)
    parser.add_argument("--yt1b_output_annot_path", required=True)
    parser.add_argument("--yt1b_annot_update_log_path", help="where removed videos are listed")
    given = parser.parse_args(argv)
    content = read_json(given.yt1b_input_annot_path)
    lists = ("videos", "annotations", "video_np_pairs")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in lists):
        raise DataError(f"{given.yt1b_input_annot_path}: expected a VEval file with the lists {', '.join(lists)}")
    gone = missing_videos(content, given.yt1b_media_dir)
    if len(gone) == len(content["videos"]):
        raise DataError(f"no video of {given.yt1b_input_annot_path} has its frames below {given.yt1b_media_dir}")
    updated = without_videos(content, gone)
    write_json(given.yt1b_output_annot_path, updated)
    if given.yt1b_annot_update_log_path:
        write_text(given.yt1b_annot_update_log_path, "".join(f"{name}\n" for name in gone))
    print(
        f"{len(updated['videos'])} videos and {len(updated['video_np_pairs'])} pairs stay, {len(gone)} videos "
        f"without all their frames went: {given.yt1b_output_annot_path}"
    )
    return 0
