"""The run over many images: skip what is finished, find, write, go on after a bad image, count."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import TypeAlias

from PIL import Image
from tqdm import tqdm

from sam3.errors import DataError
from sam3.io.images import open_image
from sam3.predict.inputs import path_from
from sam3.predict.results import ImageResult
from sam3.predict.run_folder import Entry, RunFolder
from sam3.predict.summary import Summary, raise_if_disk_error
from sam3.predict.writers import ResultWriter
from sam3.structures import FoundObject

_log = logging.getLogger(__name__)

Predictor: TypeAlias = Callable[[Image.Image], list[FoundObject]]
_Done: TypeAlias = tuple[ImageResult, bool]


def predict_images(
    entries: Sequence[Entry],
    folder: RunFolder,
    predictor: Callable[[], Predictor],
    writers: Sequence[ResultWriter],
    *,
    redo: bool = False,
    workers: int = 1,
    progress: bool = True,
) -> Summary:
    """Process every entry that is not finished yet.

    Args:
        entries: images with ids and names, from :meth:`RunFolder.enter`.
        folder: where results go.
        predictor: makes the predictor; called only if an image needs it.
        writers: the files wanted. A finished image that lacks some gets them from its stored result.
        redo: process finished images again.
        workers: images in work at the same time: while the network looks at one, others are read and written.
        progress: show a progress bar with the time left on stderr.

    Returns:
        Counts and failures. An image that fails is recorded there and in ``failures.json``; the run goes on.

    Raises:
        DataError: the output cannot be written (full disk, no permission).
    """
    summary = Summary(len(entries))
    work = _ImageWork(folder, writers, redo)
    if redo or any(folder.finished(entry) is None for entry in entries):
        work.predictor = predictor()
    started = time.monotonic()
    bar = tqdm(total=len(entries), unit="image", disable=not progress, dynamic_ncols=True)
    for entry, outcome in _in_order(work, entries, workers):
        try:
            result, was_finished = outcome()
        except Exception as error:
            raise_if_disk_error(error, folder.root, "images")
            summary.failures[str(entry.image.path)] = _reason(error)
            _log.debug("failed: %s", entry.image.path, exc_info=True)
        else:
            summary.processed += not was_finished
            summary.skipped += was_finished
            summary.objects.update(found.label for found in result.objects)
        bar.set_postfix(objects=summary.objects.total(), failed=len(summary.failures), refresh=False)
        bar.update()
    bar.close()
    summary.seconds = time.monotonic() - started
    summary.write_failures(folder.root, "image")
    return summary


class _ImageWork:
    """What is done for one image; may be called from several threads at once."""

    def __init__(self, folder: RunFolder, writers: Sequence[ResultWriter], redo: bool) -> None:
        self.folder = folder
        self.writers = writers
        self.redo = redo
        self.predictor: Predictor | None = None  # None: every image is finished
        self._one_at_a_time = Lock()

    def __call__(self, entry: Entry) -> _Done:
        """The image's result, and whether an earlier run had found it already."""
        finished = None if self.redo else self.folder.finished(entry)
        if finished is not None:
            _complete(entry, finished, self.writers)
            return finished, True
        image = open_image(entry.image.path)
        with self._one_at_a_time:
            objects = self.predictor(image)
        result = ImageResult(
            image_id=entry.image_id,
            name=entry.name,
            file_name=entry.image.file_name,
            source=path_from(self.folder.root, entry.image.path),
            width=image.width,
            height=image.height,
            objects=objects,
        )
        for writer in self.writers:
            writer.write(result, image)
        self.folder.store(result)
        return result, False


def _in_order(
    work: Callable[[Entry], _Done], entries: Sequence[Entry], workers: int
) -> Iterator[tuple[Entry, Callable[[], _Done]]]:
    """Each entry with a function that gives the outcome of its work, in the order of ``entries``.

    One worker: the work is done when its outcome is asked for. More: in that many threads, a few entries ahead.
    """
    if workers <= 1:
        for entry in entries:
            yield entry, partial(work, entry)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        ahead: deque[tuple[Entry, Callable[[], _Done]]] = deque()
        for entry in entries:
            ahead.append((entry, pool.submit(work, entry).result))
            if len(ahead) > 2 * workers:
                yield ahead.popleft()
        yield from ahead
    finally:
        pool.shutdown(cancel_futures=True)


def _complete(entry: Entry, result: ImageResult, writers: Iterable[ResultWriter]) -> None:
    """Write the files of a finished image that are wanted now and were not then; needs no network."""
    lacking = [writer for writer in writers if not all(path.exists() for path in writer.paths(result))]
    if lacking:
        image = open_image(entry.image.path)
        for writer in lacking:
            writer.write(result, image)


def _reason(error: Exception) -> str:
    text = str(error) or "no further message"
    return text if isinstance(error, DataError) else f"{type(error).__name__}: {text}"
