"""The same work for many items, in this process or in several, with the same results in the same order."""

import gc
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, TypeVar

from sam3.errors import UserError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_shared: Any = None  # in a worker process: what all items need


def ordered_map(
    function: Callable[..., _Result], items: Sequence[_Item], *, workers: int = 1, shared: Any = None
) -> Iterator[_Result]:
    """``function(item)``, or ``function(item, shared)`` where ``shared`` is given, of each item in order.

    Args:
        function: of a module, so that other processes find it.
        items: small; they are sent to the processes.
        workers: processes; 1 = this one alone.
        shared: large; where the system can fork, the processes see the memory of this one instead of a copy.

    Raises:
        UserError: a process was killed.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from (function(item) if shared is None else function(item, shared) for item in items)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin" else "spawn"
    context = multiprocessing.get_context(method)
    call = function if shared is None else partial(_with_shared, function)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_install, initargs=(shared,)) as pool:
        try:
            yield from pool.map(call, items)
        except BrokenProcessPool:
            raise UserError(
                f"one of {workers} processes was killed, perhaps because memory ran out; try fewer workers"
            ) from None


def _install(shared: Any) -> None:
    global _shared
    gc.freeze()  # a collector that looks through what the first process left would make a copy of its memory
    _shared = shared


def _with_shared(function: Callable[[_Item, Any], _Result], item: _Item) -> _Result:
    return function(item, _shared)
