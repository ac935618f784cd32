"""Being asked to end: the step is finished, everything is saved, the process leaves with a code that says why.

A cluster sends SIGTERM when it takes a machine back, a time limit or a person may send SIGUSR1 or SIGUSR2. Ctrl-C
(SIGINT) is not ours: it interrupts at once.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from sam3.data.worker_signals import STOP_SIGNALS
from sam3.train import distributed


class StoppedBySignal(SystemExit):
    """The run was asked to end and has saved what it needs to go on. Exit code: 128 + number of the signal."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(128 + received)
        self.signal = received


class StopSignals:
    """Remembers, while its ``with`` block runs, that the process was asked to end.

    Whoever works in steps asks :meth:`agreed` after each of them; within :meth:`leaving_at_once` the signal
    raises :class:`StoppedBySignal` where it arrives.
    """

    def __init__(self) -> None:
        self._arrived: set[signal.Signals] = set()
        self._at_once = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python installs no handlers
            self._previous = {number: signal.signal(number, self._receive) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}

    @property
    def received(self) -> signal.Signals | None:
        """The signal that this process received. SIGUSR1 and SIGUSR2 count more than SIGTERM: what clusters send
        them for, continuing elsewhere, is still to be done by somebody."""
        return next((number for number in reversed(STOP_SIGNALS) if number in self._arrived), None)

    def agreed(self) -> signal.Signals | None:
        """The signal that any process received; all call this together and get the same answer."""
        here = self.received
        count = distributed.total(torch.tensor([float(number == here) for number in STOP_SIGNALS]))
        return next((number for number, some in reversed(list(zip(STOP_SIGNALS, count, strict=True))) if some), None)

    @contextmanager
    def leaving_at_once(self) -> Iterator[None]:
        """For work that needs no saving.

        Raises:
            StoppedBySignal: a signal came before or within the block.
        """
        self._at_once = True
        try:
            if self.received is not None:
                raise StoppedBySignal(self.received)
            yield
        except RuntimeError as error:
            if self.received is None:
                raise
            raise StoppedBySignal(self.received) from error  # the processes it was talking to have left already
        finally:
            self._at_once = False

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._arrived.add(signal.Signals(number))
        if self._at_once:
            raise StoppedBySignal(self.received)
