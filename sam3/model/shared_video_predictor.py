"""The video predictor on several devices: the same requests, served by this process and its helpers together."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from sam3.errors import SessionError
from sam3.model.sam3_video_predictor import Request, Response, TrackedVideoFrame
from sam3.model.video.worker_processes import Build, TogetherWithHelpers


class SharedVideoPredictor:
    """Frames are shared out; every process tracks all objects. Requests and answers are those of
    :class:`~sam3.model.sam3_video_predictor.Sam3VideoPredictor`.

    Helpers are started by ``spawn``: a program that builds this needs ``if __name__ == "__main__":``.

    Args:
        build: makes a predictor, in every process; must be picklable.
        devices: one a process.
    """

    def __init__(self, build: Build, devices: Sequence[str]) -> None:
        self._all = TogetherWithHelpers(build, devices)
        self._is_shut_down = False

    @property
    def model(self) -> Any:
        """The networks of this process."""
        return self._all.own.model

    def handle_request(self, request: Request) -> Response:
        """Serve one request."""
        self._require_open()
        if request.get("type") == "start_session" and not request.get("session_id"):
            request = {**request, "session_id": str(uuid.uuid4())}  # one name in all processes
        return self._all.call("handle_request", request)

    def handle_stream_request(self, request: Request) -> Iterator[Response]:
        """Serve ``propagate_in_video``: one response a frame."""
        self._require_open()
        yield from self._all.stream("handle_stream_request", request)

    def track(self, source: Any, prompts: Any = None, **options: Any) -> Iterator[TrackedVideoFrame]:
        """Everything that the phrases name, frame by frame."""
        self._require_open()
        yield from self._all.stream("track", source, prompts, **options)

    def shutdown(self) -> None:
        """Close all sessions and end the helpers; every later request is refused."""
        if not self._is_shut_down:
            self._is_shut_down = True
            self._all.call("shutdown")
            self._all.shutdown()

    def _require_open(self) -> None:
        if self._is_shut_down:
            raise SessionError("this predictor was shut down; build another one")
