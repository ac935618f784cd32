"""The run over videos: take up what is there, follow, write, go on after a bad video, count."""

import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import takewhile

from PIL import Image
from tqdm import tqdm

from sam3.errors import UserError
from sam3.io.files import remove_partial_files
from sam3.io.frame_stream import FrameStream, live_pictures
from sam3.io.frames import FrameSource, open_frames
from sam3.io.video_files import frame_rate
from sam3.predict.summary import Summary, raise_if_disk_error
from sam3.track.clip_folder import ClipFolder
from sam3.track.clip_frames import ClipFrame
from sam3.track.clips import Clip, source_stamp
from sam3.track.follower import Follower
from sam3.track.outputs import OpenClip, Output
from sam3.track.run_folder import ClipEntry, TrackRun

_log = logging.getLogger(__name__)

FRAMES_RATE = Fraction(24)  # of folders of frames, which do not say


@dataclass
class ClipSummary(Summary):
    """What a run over videos did."""

    frames: int = 0  # of processed videos

    def work(self) -> str:
        """Videos and frames of this run."""
        return f"{super().work()} ({self.frames} frames)"


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

    def __call__(self, entry: ClipEntry, summary: ClipSummary) -> None:
        """Follow, or complete what an earlier run left."""
        folder = self._folder(entry)
        remove_partial_files(folder.root)
        finished = folder.finished()
        is_gone = entry.clip.is_live and folder.num_stored > 0  # its frames came once, and were seen
        wanted = [
            output
            for output in self.outputs
            if not (is_gone and output.needs_pictures) and not (finished and output.path(folder.root).exists())
        ]
        if finished and not wanted:
            summary.skipped += 1
            summary.objects.update(finished["info"]["objects"])
            return
        clip = OpenClip(folder, entry.video_id, self.run.categories, self._rate(entry.clip))
        with ExitStack() as stack:
            stack.callback(folder.close)
            source = None if is_gone else stack.enter_context(_frames_of(entry.clip))
            frames = folder.stored() if finished or is_gone else self._frames(folder, source)
            self._write(entry, clip, source, frames, wanted)
        objects = folder.objects_of()
        if not finished:
            folder.finish(_listing(entry, clip, objects))
            self._made.forget(folder)
        summary.processed += not finished
        summary.skipped += bool(finished)
        summary.frames += 0 if finished else folder.num_stored
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
        source: FrameSource | None,
        frames: Iterator[ClipFrame],
        wanted: Sequence[Output],
    ) -> None:
        """Give every frame to every output; ``source`` is ``None`` where no picture can be had."""
        total = clip.folder.num_stored if source is None else source.num_frames
        with ExitStack() as stack:
            takers = [stack.enter_context(output.open(clip)) for output in wanted]
            bar = tqdm(total=total, unit="frame", desc=entry.name, disable=not self.progress, dynamic_ncols=True)
            stack.callback(bar.close)
            for frame in frames:
                for write in takers:
                    write(frame, partial(_picture, source, frame.index))
                bar.set_postfix(objects=len(frame.objects), refresh=False)
                bar.update()

    def _folder(self, entry: ClipEntry) -> ClipFolder:
        stamp = {"source": source_stamp(entry.clip)}
        return ClipFolder(self.run.root / entry.name, self.run.description | stamp)

    def _rate(self, clip: Clip) -> Fraction:
        return self.rate or (None if clip.is_live else frame_rate(clip.path)) or FRAMES_RATE


def track_clips(entries: Sequence[ClipEntry], work: ClipWork) -> ClipSummary:
    """Process every video that is not finished yet; a video that fails is recorded and the run goes on.

    Raises:
        DataError: the output cannot be written (full disk, no permission).
    """
    summary = ClipSummary(len(entries))
    work.prepare(entries)
    started = time.monotonic()
    for entry in entries:
        try:
            work(entry, summary)
        except (UserError, OSError) as error:
            raise_if_disk_error(error, work.run.root, "frames")
            summary.failures[entry.clip.source] = str(error)
            _log.debug("failed: %s", entry.clip.source, exc_info=True)
    summary.seconds = time.monotonic() - started
    summary.write_failures(work.run.root, "video")
    return summary


@contextmanager
def _frames_of(clip: Clip) -> Iterator[FrameSource]:
    """The frames of a video. Ctrl-C ends what is live instead of the run; a second one ends that, too."""
    if not clip.is_live:
        source = open_frames(clip.path)
        yield source
        source.close()
        return
    is_stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal is_stopped
        if is_stopped:
            raise KeyboardInterrupt
        is_stopped = True
        _log.info("%s is ended; what was seen is being written", clip.name)

    before = signal.signal(signal.SIGINT, stop)
    pictures = live_pictures(clip.source)
    try:
        yield FrameStream(takewhile(lambda _: not is_stopped, pictures), name=f"'{clip.source}'")
    finally:
        pictures.close()
        signal.signal(signal.SIGINT, before)


def _picture(source: FrameSource | None, index: int) -> Image.Image:
    assert source is not None, "an output that needs pictures was not opened for a source that is gone"
    return source.frame(index)


def _listing(entry: ClipEntry, clip: OpenClip, objects: Counter[str]) -> dict:
    """The video as a ground truth file of SA-Co/VEval lists it, without annotations: what masklets.json refers to."""
    frames = clip.folder.num_stored
    height, width = next(clip.folder.stored()).size
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
