"""Errors that a user can mend, and the one place that turns them into exit codes.

The message of a :class:`UserError` says what came, what was expected and what to do. Commands
print it as one paragraph and end with exit code 2; everything else is a defect of ours and keeps
its traceback.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

INTERRUPTED = 130  # exit code of shells for Ctrl-C


class UserError(ValueError):
    """Something the user gave cannot be used; the message says how to mend it."""


class ConfigError(UserError):
    """A configuration key or value is wrong."""


class DataError(UserError):
    """An image, annotation or dataset file is wrong."""


class CheckpointError(UserError):
    """A weight file is missing, unreadable, or does not fit the model."""


class SessionError(UserError, RuntimeError):
    """A request that this session, or this predictor, cannot serve."""


class ForgottenFrameError(SessionError):
    """A frame so far back that its picture or results are no longer kept."""


class MissingFieldError(UserError, KeyError):
    """A request without a field that it needs."""

    __str__ = UserError.__str__


def listed(values: Sequence[Any], limit: int = 8) -> str:
    """The first ``limit`` of ``values`` for a message, and how many more there are: ``a, b and 3 more``."""
    shown = ", ".join(map(str, values[:limit]))
    return shown + (f" and {len(values) - limit} more" if len(values) > limit else "")


def run_command(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> int:
    """Run a command's ``main``; errors of the user or of the system (no file, no room) become one paragraph on stderr.

    Returns:
        The exit code: what ``main`` returned (``None`` counts as 0), 2 after a user error,
        130 after Ctrl-C.
    """
    try:
        return main(argv) or 0
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
