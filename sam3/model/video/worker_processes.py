"""Helpers of one process: they repeat each of its calls, and so do their share of the work.

The first process is the caller's own. Nothing of it changes: no environment variable, no default process group. A
process that ends before its time ends the others, and its own message is what the caller reads. Source:
spec/tracker_video.md 6.13, 11.29.
"""

import multiprocessing
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.distributed as dist

from sam3.errors import SessionError, UserError
from sam3.model.video.partners import PartnerFailed, Partners

HOST = "127.0.0.1"
PATIENCE = timedelta(hours=1)  # with a partner that works; one that is gone is noticed at once
_GRACE_SECONDS = 5.0  # for a process to say why it ended

_END = object()

Build = Callable[[Partners, str], Any]  # partners, device -> what serves the calls


@dataclass
class _Helper:
    process: BaseProcess
    pipe: Connection  # calls go out, an error may come in


class TogetherWithHelpers:
    """Serves calls in this process and, the same ones, in helpers.

    Args:
        build: makes what serves the calls, in every process; must be picklable.
        devices: one a process; this process takes the first.
    """

    def __init__(self, build: Build, devices: Sequence[str]) -> None:
        store = dist.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
        self._helpers = _started(build, devices, store.port)
        self._next_stream = 0
        self._lock = threading.RLock()  # one call after the other, in all processes
        try:
            self.own = build(Partners(_join(store, 0, len(devices))), devices[0])
        except UserError:
            self.shutdown()
            raise
        except BaseException as error:
            self._give_up(error)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """``method`` of what was built, in all processes; the result in this one."""
        with self._lock:
            self._tell("call", method, arguments, options)
            return self._together(lambda: getattr(self.own, method)(*arguments, **options))

    def stream(self, method: str, *arguments: Any, **options: Any) -> Iterator[Any]:
        """The same for an iterator: every step is taken in all processes."""
        with self._lock:
            number, self._next_stream = self._next_stream, self._next_stream + 1
            self._tell("open", number, method, arguments, options)
            items = self._together(lambda: iter(getattr(self.own, method)(*arguments, **options)))
        try:
            while (item := self._step(number, items)) is not _END:
                yield item
        finally:
            with self._lock:
                self._tell("close", number)

    def _step(self, number: int, items: Iterator[Any]) -> Any:
        with self._lock:
            self._tell("next", number)
            return self._together(lambda: next(items, _END))

    def shutdown(self) -> None:
        """End the helpers."""
        for helper in self._helpers:
            helper.pipe.close()
        for helper in self._helpers:
            helper.process.join(_GRACE_SECONDS)
            if helper.process.is_alive():
                helper.process.kill()
                helper.process.join()
        self._helpers = []

    def _tell(self, *message: Any) -> None:
        try:
            for helper in self._helpers:
                helper.pipe.send(message)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise SessionError(
                "several processes need what can be copied to them, such as a path or a list of pictures; this cannot "
                f"({error})"
            ) from error
        except OSError as error:
            self._give_up(error)

    def _together(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except UserError:
            raise  # the helpers came to the same
        except BaseException as error:
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """End all; raises what a helper said, or else ``error``."""
        said = [text for helper in self._helpers if (text := _last_words(helper)) is not None]
        self.shutdown()
        if said:
            raise PartnerFailed("\n".join(said)) from error
        raise error


def _started(build: Build, devices: Sequence[str], port: int) -> list[_Helper]:
    context = multiprocessing.get_context("spawn")
    helpers = []
    for rank in range(1, len(devices)):
        mine, theirs = context.Pipe()
        arguments = (build, devices[rank], rank, len(devices), port, theirs)
        process = context.Process(target=_serve, args=arguments, name=f"process {rank}", daemon=True)
        process.start()
        theirs.close()  # so that its end is noticed here
        helpers.append(_Helper(process, mine))
    return helpers


def _join(store: dist.Store, rank: int, size: int) -> dist.ProcessGroup:
    """A group of its own: torch's default group, if there is one, is another matter."""
    options = dist.ProcessGroupGloo._Options()
    options._timeout = PATIENCE
    options._devices = [dist.ProcessGroupGloo.create_device(hostname=HOST)]
    return dist.ProcessGroupGloo(dist.PrefixStore("sam3", store), rank, size, options)


def _last_words(helper: _Helper) -> str | None:
    """Why a helper ended; None if it did not."""
    try:
        if helper.pipe.poll(_GRACE_SECONDS):
            return helper.pipe.recv()
    except (EOFError, OSError):
        pass
    helper.process.join(_GRACE_SECONDS)
    code = helper.process.exitcode
    return None if code in (None, 0) else f"{helper.process.name} ended with exit code {code}"


# --- inside a helper ---


def _serve(build: Build, device: str, rank: int, size: int, port: int, pipe: Connection) -> None:
    try:
        torch.set_num_threads(max(1, torch.get_num_threads() // size))
        store = dist.TCPStore(HOST, port, is_master=False)
        _repeat_calls(build(Partners(_join(store, rank, size)), device), pipe)
    except (EOFError, OSError, KeyboardInterrupt):
        return  # the first process has ended
    except Exception as error:
        text = str(error) if isinstance(error, UserError) else traceback.format_exc()
        pipe.send(f"process {rank} failed: {text}")
        raise SystemExit(1) from error


def _repeat_calls(own: Any, pipe: Connection) -> None:
    streams: dict[int, Iterator[Any]] = {}
    while True:
        kind, *message = pipe.recv()
        try:
            if kind == "call":
                method, arguments, options = message
                getattr(own, method)(*arguments, **options)
            elif kind == "open":
                number, method, arguments, options = message
                streams[number] = iter(getattr(own, method)(*arguments, **options))
            elif kind == "next":
                next(streams[message[0]], None)
            else:
                streams.pop(message[0]).close()
        except UserError:
            pass  # the first process came to the same, and tells its caller
