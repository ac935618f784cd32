"""What a run remembers of one video, so that it goes on after ``kill -9``.

``frames.jsonl`` grows by one line a frame. ``video.json`` is written last: where it exists and fits, the video is
finished. Both are enough to write every other file again without the network.
"""

import json
import logging
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sam3.errors import DataError
from sam3.eval.masklet_file import masklet_record
from sam3.io.files import read_json, write_json
from sam3.io.journal import Journal, read_journal
from sam3.track.clip_frames import ClipFrame

_log = logging.getLogger(__name__)

JOURNAL = "frames.jsonl"
LISTING = "video.json"


class ClipFolder:
    """
    Args:
        root: the folder of one video's results.
        description: everything that decides what is found; results of another one are begun anew.
    """

    def __init__(self, root: Path, description: dict[str, Any]) -> None:
        self.root = root
        self.description = json.loads(json.dumps(description))
        self._journal = Journal(root / JOURNAL, self.description)
        self.num_stored = self._count()

    def finished(self) -> dict[str, Any] | None:
        """The listing of a finished video."""
        path = self.root / LISTING
        listing = read_json(path) if path.exists() else None
        return listing if listing is not None and listing["info"]["of"] == self.description else None

    def stored(self) -> Iterator[ClipFrame]:
        """The frames that are on disk."""
        if self.num_stored:
            for entry in read_journal(self._journal.path, self.description):
                yield ClipFrame.from_dict(entry)

    def append(self, frame: ClipFrame) -> None:
        """Store the frame after the last one."""
        assert frame.index == self.num_stored, f"frame {frame.index} after {self.num_stored} frames"
        self._journal.append(frame.to_dict())
        self.num_stored += 1

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    def finish(self, listing: dict[str, Any]) -> None:
        """Mark the video as finished; call it when all its files are written."""
        self.close()
        listing["info"]["of"] = self.description
        write_json(self.root / LISTING, listing, indent=1)

    def forget(self) -> None:
        """Begin anew."""
        for name in (LISTING, JOURNAL):
            (self.root / name).unlink(missing_ok=True)
        self.num_stored = 0

    def objects_of(self) -> Counter[str]:
        """Phrase -> number of different objects."""
        phrases = {item.obj_id: item.found.label for frame in self.stored() for item in frame.objects}
        return Counter(phrases.values())

    def masklets(self, video_id: int, categories: dict[str, int]) -> Iterator[dict[str, Any]]:
        """Records of the VEval prediction format, by rising id; one masklet is in memory at a time."""
        if not self.num_stored:
            return
        with open(self._journal.path, "rb") as file:
            for obj_id, offsets in sorted(self._lines_of_objects().items()):
                masks: list[Any] = [None] * self.num_stored
                for offset in offsets:
                    file.seek(offset)
                    frame = ClipFrame.from_dict(json.loads(file.readline()))
                    (item,) = (item for item in frame.objects if item.obj_id == obj_id)
                    masks[frame.index] = item.found.segmentation
                record = masklet_record(
                    video_id=video_id,
                    category_id=categories[item.found.label],
                    score=item.found.score,
                    masks=masks,
                )
                yield record | {"noun_phrase": item.found.label, "obj_id": obj_id}

    def _lines_of_objects(self) -> dict[int, "array[int]"]:
        """Object -> where the lines of its frames begin."""
        found: dict[int, array[int]] = {}
        with open(self._journal.path, "rb") as file:
            offset = len(file.readline())  # the header
            for _ in range(self.num_stored):
                line = file.readline()
                for item in json.loads(line)["objects"]:
                    found.setdefault(item["id"], array("q")).append(offset)
                offset += len(line)
        return found

    def _count(self) -> int:
        """Whole frames on disk that belong to this description."""
        if not self._journal.path.exists():
            return 0
        try:
            return sum(1 for _ in read_journal(self._journal.path, self.description))
        except DataError as error:
            _log.warning("%s; this video is begun anew", error)
            self.forget()
            return 0
