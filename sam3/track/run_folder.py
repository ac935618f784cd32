"""The output folder of a run over videos: ``run.json`` holds the settings and the videos with their ids and names."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sam3.errors import DataError
from sam3.io.files import write_json
from sam3.predict.inputs import path_from, unique_names
from sam3.predict.run_file import RUN_FILE, earlier_run
from sam3.track.clip_folder import ClipFolder
from sam3.track.clips import Clip


@dataclass(frozen=True)
class TrackSettings:
    """Everything that changes what is found. Results of different settings never share a folder."""

    checkpoint: str  # fingerprint of the weight file
    phrases: list[str]
    resolution: int
    dtype: str
    temporal_disambiguation: bool = True
    thresholds: dict[str, Any] = field(default_factory=dict)  # of the video model, where they differ from its own
    memory_budget: str | None = None  # it limits how many objects are followed


@dataclass(frozen=True)
class ClipEntry:
    """One video of the run."""

    video_id: int
    name: str  # of its folder
    clip: Clip


class TrackRun:
    """Reads and writes ``run.json``."""

    def __init__(self, root: Path, settings: TrackSettings, remembered: list[dict[str, Any]]) -> None:
        self.root = root
        self.settings = settings
        self._videos = remembered  # {"video_id", "name", "source"} of all runs so far; sources as seen from ``root``

    @classmethod
    def open(cls, root: str | Path, settings: TrackSettings, *, overwrite: bool = False) -> "TrackRun":
        """Take up the run in ``root``, or begin one.

        Args:
            overwrite: begin anew whatever lies there.

        Raises:
            DataError: the folder cannot be written, or holds results of other settings.
        """
        root = Path(root)
        earlier, _ = earlier_run(root, asdict(settings), option="--output-dir", overwrite=overwrite)
        return cls(root, settings, [] if earlier is None else earlier["videos"])

    def enter(self, clips: Sequence[Clip]) -> list[ClipEntry]:
        """Ids and names for ``clips``; those of earlier runs are kept. Written to disk before any work.

        Raises:
            DataError: the folder cannot be written.
        """
        known = {self._place(video["source"], video.get("is_live", False)): video for video in self._videos}
        names = unique_names(clips, {Path(place): video["name"] for place, video in known.items()})
        for clip in clips:
            if clip.source not in known:
                number = 1 + max((video["video_id"] for video in self._videos), default=0)
                source = clip.source if clip.is_live else path_from(self.root, clip.path)
                video = {"video_id": number, "name": names[clip.path], "source": source, "is_live": clip.is_live}
                known[clip.source] = video
                self._videos.append(video)
        try:
            write_json(self.root / RUN_FILE, {"settings": asdict(self.settings), "videos": self._videos}, indent=1)
        except OSError as error:
            raise DataError(f"--output-dir {self.root} cannot be written: {error.strerror or error}") from error
        return [ClipEntry(known[clip.source]["video_id"], known[clip.source]["name"], clip) for clip in clips]

    def forget(self, entries: Sequence[ClipEntry]) -> None:
        """Let the videos be begun anew."""
        for entry in entries:
            ClipFolder(self.root / entry.name, self.description).forget()

    def _place(self, source: str, is_live: bool) -> str:
        """A remembered source as clips name it. Paths are remembered as seen from here: both may be moved together."""
        return source if is_live else os.path.abspath(self.root / source)

    @property
    def categories(self) -> dict[str, int]:
        """Phrase -> number, from 1."""
        return {phrase: number for number, phrase in enumerate(self.settings.phrases, start=1)}

    @property
    def description(self) -> dict[str, Any]:
        """What the results of every video depend on."""
        return asdict(self.settings)
