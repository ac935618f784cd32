"""The run over videos: take up what is there, follow, write, go on after a bad video, count."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

from tqdm import tqdm

from sam3.errors import DataError, UserError
from sam3.io.files import remove_partial_files, write_json
from sam3.io.frames import FrameSource, open_frames
from sam3.io.video_files import frame_rate
from sam3.predict.folder import DISK_ERRORS, FAILURES
from sam3.track.clip_folder import ClipFolder
from sam3.track.clip_frames import ClipFrame
from sam3.track.clips import source_stamp
from sam3.track.follower import Follower
from sam3.track.outputs import OpenClip, Output
from sam3.track.run_folder import ClipEntry, TrackRun

_log = logging.getLogger(__name__)

FRAMES_RATE = Fraction(24)  # of folders of frames, which do not say


@dataclass
class Summary:
    """What a run did."""

    clips: int
    processed: int = 0
    skipped: int = 0  # finished by an earlier run
    frames: int = 0  # of processed videos
    objects: Counter[str] = field(default_factory=Counter)  # phrase -> number, in processed and skipped videos
    failures: dict[str, str] = field(default_factory=dict)  # path -> reason
    seconds: float = 0.0


@dataclass
class ClipWork:
    """What is done for one video.

    Args:
        run: the output folder.
        follower: makes it; called only if a video needs it.
        outputs: the files wanted; a finished video that lacks some gets them from its journal.
        rate: frames per second; left out, that of the source.
        progress: show a bar.
    """

    run: TrackRun
    follower: Callable[[], Follower]
    outputs: Sequence[Output]
    rate: Fraction | None = None
    progress: bool = True
    _made: Follower | None = field(default=None, init=False)

    def prepare(self, entries: Sequence[ClipEntry]) -> None:
        """Build the network if a video needs it, so that weights that do not fit end the run at once."""
        if any(self._folder(entry).finished() is None for entry in entries):
            self._made = self.follower()

    def __call__(self, entry: ClipEntry, summary: Summary) -> None:
        """Follow, or complete what an earlier run left."""
        folder = self._folder(entry)
        folder.root.mkdir(parents=True, exist_ok=True)
        remove_partial_files(folder.root)
        finished = folder.finished()
        wanted = [out for out in self.outputs if finished is None or not out.path(folder.root).exists()]
        if finished is not None and not wanted:
            summary.skipped += 1
            summary.objects.update(finished["info"]["objects"])
            return
        source = open_frames(entry.path)
        clip = OpenClip(folder, entry.video_id, self.run.categories, self._rate(entry.path))
        frames = folder.stored() if finished is not None else self._frames(folder, source)
        try:
            self._write(entry, clip, source, frames, wanted)
        finally:
            folder.close()
        objects = folder.objects_of()
        if finished is None:
            folder.finish(_listing(entry, clip, source.size, objects))
            self._made.forget(folder)
        summary.processed += finished is None
        summary.skipped += finished is not None
        summary.frames += folder.num_stored if finished is None else 0
        summary.objects.update(objects)

    def _frames(self, folder: ClipFolder, source: FrameSource) -> Iterator[ClipFrame]:
        """Those that are stored, then those that are still to be found, which are stored first."""
        yield from folder.stored()
        for frame in self._made.follow(source, folder):
            if frame.index >= folder.num_stored:  # the others were found before the interruption
                folder.append(frame)
                yield frame

    def _write(
        self,
        entry: ClipEntry,
        clip: OpenClip,
        source: FrameSource,
        frames: Iterator[ClipFrame],
        wanted: Sequence[Output],
    ) -> None:
        with ExitStack() as stack:
            takers = [stack.enter_context(output.open(clip)) for output in wanted]
            bar = tqdm(total=len(source), unit="frame", desc=entry.name, disable=not self.progress, dynamic_ncols=True)
            stack.callback(bar.close)
            for frame in frames:
                for write in takers:
                    write(frame, partial(source.frame, frame.index))
                bar.set_postfix(objects=len(frame.objects), refresh=False)
                bar.update()

    def _folder(self, entry: ClipEntry) -> ClipFolder:
        stamp = {"source": source_stamp(entry.path)}
        return ClipFolder(self.run.root / entry.name, self.run.description | stamp)

    def _rate(self, path: Path) -> Fraction:
        return self.rate or frame_rate(path) or FRAMES_RATE


def track_clips(entries: Sequence[ClipEntry], work: ClipWork) -> Summary:
    """Process every video that is not finished yet; a video that fails is recorded and the run goes on.

    Raises:
        DataError: the output cannot be written (full disk, no permission).
    """
    summary = Summary(clips=len(entries))
    work.prepare(entries)
    started = time.monotonic()
    for entry in entries:
        try:
            work(entry, summary)
        except (UserError, OSError) as error:
            _raise_if_disk_error(error, work.run.root)
            summary.failures[str(entry.path)] = str(error)
            _log.debug("failed: %s", entry.path, exc_info=True)
    summary.seconds = time.monotonic() - started
    failures = work.run.root / FAILURES
    if summary.failures:
        write_json(failures, [{"video": path, "reason": why} for path, why in summary.failures.items()], indent=1)
    else:
        failures.unlink(missing_ok=True)
    return summary


def _raise_if_disk_error(error: Exception, root: Path) -> None:
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        raise DataError(
            f"cannot write results to {root}: {error}; finished frames are kept, run again to go on"
        ) from error


def _listing(entry: ClipEntry, clip: OpenClip, size: tuple[int, int], objects: Counter[str]) -> dict:
    """The video as a ground truth file of SA-Co/VEval lists it, without annotations: what masklets.json refers to."""
    height, width = size
    frames = clip.folder.num_stored
    video = {
        "id": entry.video_id,
        "video_name": entry.name,
        "file_names": [f"{entry.name}/{frame:06d}" for frame in range(frames)],
        "height": height,
        "width": width,
        "length": frames,
    }
    categories = [{"id": number, "name": phrase} for phrase, number in clip.categories.items()]
    pairs = [
        {"id": number, "video_id": entry.video_id, "category_id": number, "noun_phrase": phrase}
        for phrase, number in clip.categories.items()
    ]
    info = {"description": "what masklets.json refers to", "frames_per_second": float(clip.rate), "objects": objects}
    return {
        "info": info,
        "videos": [video],
        "annotations": [],
        "categories": categories,
        "video_np_pairs": pairs,
    }
