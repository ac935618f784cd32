"""Sessions by id, with a clock that stands still until it is told."""

import pytest

from sam3.errors import SessionError
from sam3.model.video.registry import Sessions


class Video:
    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_idle_sessions_expire_and_used_ones_do_not():
    now = [0.0]
    sessions = Sessions(10, clock=lambda: now[0])
    idle, used = Video(), Video()
    sessions.add("idle", idle)
    sessions.add("used", used)
    now[0] = 8.0
    assert sessions.get("used") is used
    now[0] = 12.0
    assert sessions.get("used") is used
    assert idle.is_closed
    assert not used.is_closed
    with pytest.raises(SessionError, match="Cannot find session 'idle': it expired after 10 s without a request"):
        sessions.get("idle")
    sessions.add("idle", Video())
    sessions.get("idle")
    assert len(sessions) == 2


def test_without_an_expiry_sessions_stay():
    now = [0.0]
    sessions = Sessions(clock=lambda: now[0])
    sessions.add("a", Video())
    now[0] = 1e9
    sessions.get("a")
    with pytest.raises(SessionError, match="there is a session 'a' already"):
        sessions.require_free("a")


def test_why_a_session_is_not_there():
    sessions = Sessions()
    sessions.add("a", video := Video())
    assert sessions.close("a")
    assert video.is_closed
    assert not sessions.close("a")
    with pytest.raises(SessionError, match="Cannot find session 'a': it was closed"):
        sessions.get("a")
    with pytest.raises(SessionError, match="Cannot find session 'b': it was never started"):
        sessions.get("b")
