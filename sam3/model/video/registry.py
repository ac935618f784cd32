"""The sessions that a predictor holds, by id; idle ones may expire."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from sam3.errors import SessionError
from sam3.model.video.open_video import OpenVideo

_REMEMBERED = 1000  # ids of gone sessions of which an error can say why they are gone


@dataclass
class Sessions:
    """
    Args:
        expiry_s: seconds without a request after which a session is closed; None = never. Looked after on each request.
        clock: gives seconds.
    """

    expiry_s: float | None = None
    clock: Callable[[], float] = time.monotonic
    _open: dict[str, OpenVideo] = field(default_factory=dict)
    _used: dict[str, float] = field(default_factory=dict)  # id -> when it was used last
    _gone: OrderedDict[str, str] = field(default_factory=OrderedDict)  # id -> why

    def __len__(self) -> int:
        return len(self._open)

    def add(self, session_id: str, video: OpenVideo) -> None:
        """Keep a new session."""
        self._open[session_id] = video
        self._gone.pop(session_id, None)
        self.touch(session_id)

    def require_free(self, session_id: str) -> None:
        """No session has this id."""
        self.expire()
        if session_id in self._open:
            raise SessionError(f"there is a session {session_id!r} already; close it first")

    def get(self, session_id: str) -> OpenVideo:
        """The session of that id.

        Raises:
            SessionError: there is none; the message says whether it was closed, expired, or never started.
        """
        self.expire()
        if session_id not in self._open:
            raise SessionError(
                f"Cannot find session {session_id!r}: {self._gone.get(session_id, 'it was never started')}"
            )
        self.touch(session_id)
        return self._open[session_id]

    def touch(self, session_id: str) -> None:
        """The session is in use."""
        if session_id in self._open:
            self._used[session_id] = self.clock()

    def close(self, session_id: str, why: str = "it was closed") -> bool:
        """Let go of a session and all that it keeps; False where there is none."""
        video = self._open.pop(session_id, None)
        if video is None:
            return False
        del self._used[session_id]
        self._gone[session_id] = why
        while len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)
        video.close()
        return True

    def close_all(self) -> None:
        """Let go of all sessions."""
        for session_id in list(self._open):
            self.close(session_id)

    def expire(self) -> None:
        """Close what was not used for too long."""
        if self.expiry_s is None:
            return
        now = self.clock()
        for session_id, used in list(self._used.items()):
            if now - used > self.expiry_s:
                self.close(session_id, f"it expired after {self.expiry_s:g} s without a request")
