"""``CONFIG_FRAMES.yaml``: where the videos of the Silver data sets DROID, SA-V, Ego4D and YT-1B lie and go."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sam3.errors import ConfigError

DATASETS = ("droid", "sav", "ego4d", "yt1b")


@dataclass(frozen=True)
class FrameSettings:
    """What the file says of one data set."""

    name: str
    annotation_file: Path  # silver_<name>_merged_test.json
    folder: Path  # holds downloaded_videos/ and frames/
    cookies_file: Path | None = None  # of a browser that may watch the videos (yt1b)
    sav_videos: str | None = None  # address or file of the tar of SA-V videos at 6 frames a second (sav)
    update_annotations: bool = True  # take entries whose video is gone out of the annotation file (yt1b, ego4d)
    remove_videos: bool = False  # delete videos after their frames were written

    @property
    def videos(self) -> Path:
        return self.folder / "downloaded_videos"

    @property
    def frames(self) -> Path:
        return self.folder / "frames"


def read_frame_settings(path: str | Path, name: str) -> FrameSettings:
    """The settings of data set ``name``.

    Raises:
        ConfigError: unreadable YAML, an unknown data set or a missing key.
    """
    if name not in DATASETS:
        raise ConfigError(f"unknown data set {name!r}; expected one of {', '.join(DATASETS)}")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the settings {path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values, such as path_annotations: FOLDER")
    missing = [key for key in ("path_annotations", f"{name}_path") if not content.get(key)]
    if missing:
        raise ConfigError(f"{path}: {', '.join(missing)} must be set for the data set {name}")
    return FrameSettings(
        name=name,
        annotation_file=Path(content["path_annotations"]) / f"silver_{name}_merged_test.json",
        folder=Path(content[f"{name}_path"]),
        cookies_file=_path(content.get("cookies_path")),
        sav_videos=content.get("sav_videos_fps_6_download_path"),
        update_annotations=bool(content.get(f"update_annotation_{name}", name in ("yt1b", "ego4d"))),
        remove_videos=bool(content.get(f"remove_downloaded_videos_{name}", False)),
    )


def _path(value: Any) -> Path | None:
    return Path(value) if value else None
