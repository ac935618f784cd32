"""The same work for many items, in this process or in several, with the same results in the same order."""

import gc
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from sam3.errors import UserError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def ordered_map(
    function: Callable[..., _Result], items: Sequence[_Item], *, workers: int = 1, shared: Any = None
) -> Iterator[_Result]:
    """``function(item)``, or ``function(item, shared)`` where ``shared`` is given, of each item in order.

    Of n processes, this one is one: a result that it makes itself need not travel. Items are dealt out in turn.

    Args:
        function: of a module, so that other processes find it.
        items: about equally hard.
        workers: processes; 1 = this one alone.
        shared: large; where the system can fork, the processes see the memory of this one instead of a copy.

    Raises:
        UserError: a process was killed.
    """
    call = function if shared is None else partial(_with_shared, function, shared)
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(call, items)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin" else "spawn"
    helpers = [_start(multiprocessing.get_context(method), call, items[turn::workers]) for turn in range(1, workers)]
    try:
        rows = [_outcomes(call, items[::workers]), *[_received(helper, workers) for helper in helpers]]
    finally:
        for helper in helpers:
            helper.process.terminate()
            helper.process.join()
    for place in range(len(items)):
        result = rows[place % workers][place // workers]
        if isinstance(result, _Failure):
            raise result.error
        yield result


@dataclass(frozen=True)
class _Failure:
    """Stands where a result should; nothing was tried after it."""

    error: Exception


@dataclass(frozen=True)
class _Helper:
    """Another process, and where its results arrive."""

    process: BaseProcess
    results: Connection


def _start(context: BaseContext, call: Callable, items: Sequence) -> _Helper:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(call, items, sender), daemon=True)
    process.start()
    sender.close()  # the end of the helper alone is left, so that its death is noticed
    return _Helper(process, receiver)


def _work(call: Callable, items: Sequence, results: Connection) -> None:
    """What a helper does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the first process, which ends its helpers
    gc.freeze()  # a collector that looks through what the first process left would make a copy of its memory
    results.send(_outcomes(call, items))


def _received(helper: _Helper, workers: int) -> list:
    try:
        return helper.results.recv()
    except EOFError:
        raise UserError(
            f"one of {workers} processes was killed, perhaps because memory ran out; try fewer workers"
        ) from None


def _outcomes(call: Callable, items: Sequence) -> list:
    """Results up to the first failure."""
    found: list = []
    for item in items:
        try:
            found.append(call(item))
        except Exception as error:
            found.append(_Failure(error))
            break
    return found


def _with_shared(function: Callable[[_Item, Any], _Result], shared: Any, item: _Item) -> _Result:
    return function(item, shared)
