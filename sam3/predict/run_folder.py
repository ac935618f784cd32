"""The output folder of a run, and what it remembers so that an interrupted run goes on where it stopped.

``run.json`` holds the settings and, for every image, its id and the name of its files. ``predictions/<name>.json``
is written last of an image's files: where it exists and fits, the image is finished.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sam3.errors import DataError
from sam3.io.files import write_json
from sam3.predict.inputs import ImageFile, path_from, unique_names
from sam3.predict.results import ImageResult
from sam3.predict.run_file import RUN_FILE, earlier_run, read_own_json

PREDICTIONS = "predictions"


@dataclass(frozen=True)
class RunSettings:
    """Everything that changes what is found. Results of different settings never share a folder."""

    checkpoint: str  # fingerprint of the weight file
    prompts: dict[str, str]  # label -> phrase
    score_threshold: float
    max_detections: int  # per image and phrase; -1 = no limit
    resolution: int
    dtype: str


@dataclass(frozen=True)
class Entry:
    """One image of the run."""

    image_id: int
    name: str  # of its files, without suffix
    image: ImageFile


class RunFolder:
    """Reads and writes ``run.json`` and the per-image results."""

    def __init__(self, root: Path, settings: RunSettings, remembered: list[dict[str, Any]]) -> None:
        self.root = root
        self.settings = settings
        self._images = remembered  # {"image_id", "name", "source"} of all runs so far; sources as seen from ``root``

    @classmethod
    def open(cls, root: str | Path, settings: RunSettings, *, overwrite: bool = False) -> "RunFolder":
        """Take up the run in ``root``, or begin one.

        Args:
            overwrite: begin anew whatever lies there; results are replaced image by image.

        Raises:
            DataError: the folder holds results of other settings, or files of another origin under our names.
        """
        root = Path(root)
        earlier, differences = earlier_run(root, asdict(settings), option="--output", overwrite=overwrite)
        if earlier is None and (root / PREDICTIONS).exists() and not overwrite:
            raise DataError(
                f"--output {root} has a folder {PREDICTIONS!r} but no {RUN_FILE}, so it is not the output of an "
                "earlier run; choose another folder, or pass --overwrite to write into this one"
            )
        return cls(root, settings, [] if earlier is None or differences else earlier["images"])

    def enter(self, images: Sequence[ImageFile]) -> list[Entry]:
        """Ids and names for ``images``; those of earlier runs are kept. Written to disk before any work."""
        known = {self._path(image["source"]): image for image in self._images}
        names = unique_names(images, {path: image["name"] for path, image in known.items()})
        next_id = 1 + max((image["image_id"] for image in self._images), default=0)
        for image in images:
            if image.path not in known:
                source = path_from(self.root, image.path)
                known[image.path] = {"image_id": next_id, "name": names[image.path], "source": source}
                self._images.append(known[image.path])
                next_id += 1
        write_json(self.root / RUN_FILE, {"settings": asdict(self.settings), "images": self._images}, indent=1)
        return [Entry(known[image.path]["image_id"], names[image.path], image) for image in images]

    def finished(self, entry: Entry) -> ImageResult | None:
        """The stored result, if the image was finished with these settings and its file has not changed since."""
        stored = read_own_json(self._result_path(entry.name))
        if (
            stored is None
            or stored.get("settings") != self.digest
            or stored.get("source_stamp") != _stamp(entry.image.path)
        ):
            return None
        return ImageResult.from_dict(stored)

    def store(self, result: ImageResult) -> None:
        """Mark an image as finished; call it after all its other files are written."""
        marks = {"settings": self.digest, "source_stamp": _stamp(self._path(result.source))}
        write_json(self._result_path(result.name), result.to_dict() | marks)

    def results(self) -> Iterator[ImageResult]:
        """Every finished image of this folder, earlier runs included, in the order of ids."""
        for image in self._images:
            stored = read_own_json(self._result_path(image["name"]))
            if stored is not None and stored.get("settings") == self.digest:
                yield ImageResult.from_dict(stored)

    @property
    def digest(self) -> str:
        """Short fingerprint of the settings."""
        return hashlib.sha256(json.dumps(asdict(self.settings)).encode()).hexdigest()[:16]

    def _path(self, source: str) -> Path:
        """Absolute path of an image. Remembered as seen from here, so that both may be moved together."""
        return Path(os.path.abspath(self.root / source))

    def _result_path(self, name: str) -> Path:
        return self.root / PREDICTIONS / f"{name}.json"


def _stamp(path: Path) -> list[int] | None:
    """Size and modification time of an image file; None when it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
