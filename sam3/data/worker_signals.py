"""Loader workers outlive the signals that ask a training run to end.

A cluster sends them to every process of a job at once. A worker that died of one would take the training process
down before that has saved its state; workers end when the training process does.
"""

import signal

# Windows knows SIGTERM only.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))


def ignore_stop_signals(_: int = 0) -> None:
    """First thing a worker does; the argument is its number."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
