"""Videos for applications: sessions, prompts and propagation behind plain requests (spec/tracker_video.md 7).

Memory is not bounded yet: masks of every frame stay in a session until it is closed.
"""

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sam3.errors import MissingFieldError, SessionError
from sam3.io.frames import open_frames
from sam3.model.video.open_video import OpenVideo, ShownFrame
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.settings import VideoSettings

_log = logging.getLogger(__name__)

Request = Mapping[str, Any]
Response = dict[str, Any]

_DIRECTIONS = {"both": (False, True), "forward": (False,), "backward": (True,)}


class Sam3VideoPredictor:
    """
    Args:
        model: the networks, in evaluation mode.
        settings: every threshold of the video model.
    """

    def __init__(self, model: Sam3Video, settings: VideoSettings | None = None) -> None:
        self.model = model
        self.settings = settings or VideoSettings()
        self._sessions: dict[str, OpenVideo] = {}
        self._is_shut_down = False

    # --- requests ---

    @torch.inference_mode()
    def handle_request(self, request: Request) -> Response:
        """Serve ``start_session``, ``add_prompt``, ``remove_object``, ``reset_session`` or ``close_session``.

        Raises:
            SessionError: an unknown type or session.
            MissingFieldError: a needed field is not there.
            UserError: what was given cannot be used; the session stays as it was.
        """
        handlers = {
            "start_session": self._start,
            "add_prompt": self._add_prompt,
            "remove_object": self._remove_object,
            "reset_session": self._reset,
            "close_session": self._close,
        }
        return self._handler(request, handlers)(request)

    def handle_stream_request(self, request: Request) -> Iterator[Response]:
        """Serve ``propagate_in_video``: one response a frame."""
        yield from self._handler(request, {"propagate_in_video": self._propagate})(request)

    def shutdown(self) -> None:
        """Close all sessions; every later request is refused."""
        self._sessions.clear()
        self._is_shut_down = True

    def _handler(self, request: Request, handlers: Mapping[str, Any]) -> Any:
        if self._is_shut_down:
            raise SessionError("this predictor was shut down; build another one")
        kind = request.get("type")
        if kind not in handlers:
            raise SessionError(f"invalid request type {kind!r}; expected one of {', '.join(handlers)}")
        return handlers[kind]

    def _start(self, request: Request) -> Response:
        source = open_frames(_field(request, "resource_path"))
        session_id = request.get("session_id") or str(uuid.uuid4())
        if session_id in self._sessions:
            raise SessionError(f"there is a session {session_id!r} already; close it first")
        self._sessions[session_id] = OpenVideo(self.model, source, self.settings)
        return {"session_id": session_id}

    def _add_prompt(self, request: Request) -> Response:
        video, frame = self._video(request), int(_field(request, "frame_index"))
        if not video.source.has(frame):
            count = video.source.num_frames
            length = "that is open" if count is None else f"of {count} frames"
            raise SessionError(f"frame_index {frame} is outside the video {length}")
        text, points = request.get("text"), request.get("points")
        boxes, labels = request.get("bounding_boxes"), request.get("bounding_box_labels")
        if points is not None:
            if text is not None or boxes is not None:
                raise SessionError("points belong to one object and exclude text and bounding_boxes")
            shown = video.click(frame, _field(request, "obj_id"), points, _field(request, "point_labels"))
        elif text is not None or boxes is not None:
            shown = video.look_for(frame, text, boxes, labels)
        else:
            raise SessionError("add_prompt needs text, bounding_boxes with their labels, or points with obj_id")
        return {"frame_index": frame, "outputs": _outputs(shown)}

    def _remove_object(self, request: Request) -> Response:
        self._video(request).remove_object(int(_field(request, "obj_id")))
        return {"is_success": True}

    def _reset(self, request: Request) -> Response:
        self._video(request).reset()
        return {"is_success": True}

    def _close(self, request: Request) -> Response:
        if self._sessions.pop(_field(request, "session_id"), None) is None:
            _log.warning("close_session: there is no session %r", request["session_id"])
        return {"is_success": True}

    def _propagate(self, request: Request) -> Iterator[Response]:
        video = self._video(request)
        direction = request.get("propagation_direction", "both")
        if direction not in _DIRECTIONS:
            raise SessionError(f"propagation_direction is {direction!r}; expected one of {', '.join(_DIRECTIONS)}")
        for is_reverse in _DIRECTIONS[direction]:
            frames = video.propagate(
                request.get("start_frame_index"), limit=request.get("max_frame_num_to_track"), is_reverse=is_reverse
            )
            for shown in _without_gradients(frames):
                yield {"frame_index": shown.index, "outputs": _outputs(shown)}

    def _video(self, request: Request) -> "OpenVideo":
        session_id = _field(request, "session_id")
        if session_id not in self._sessions:
            raise SessionError(f"Cannot find session {session_id!r}; it was never started, or was closed")
        return self._sessions[session_id]

    # --- plain Python ---

    def track(
        self,
        source: str | Path | Sequence[Image.Image],
        prompts: str | Sequence[str] | None = None,
        *,
        start: int = 0,
        prompt: str | None = None,
    ) -> Iterator["TrackedVideoFrame"]:
        """Everything that the phrases name, frame by frame from ``start`` on, each object with one id throughout.

        Args:
            source: folder of pictures, picture, video file, or list of PIL images.
            prompts: one phrase or several; phrases do not influence each other.
            prompt: the same, under its former name.
        """
        given = prompts if prompts is not None else prompt
        phrases = [given] if isinstance(given, str) else list(given or ())
        if not phrases:
            raise SessionError("track needs at least one phrase in prompts")
        video = OpenVideo(self.model, open_frames(source), self.settings)
        with torch.inference_mode():
            video.look_for_each(start, phrases)
        for shown in _without_gradients(video.propagate(start)):
            yield TrackedVideoFrame(
                index=shown.index,
                ids=shown.objects.obj_ids,
                labels=shown.labels,
                scores=shown.objects.scores.numpy(),
                masks=shown.objects.masks.numpy(),
            )


@dataclass(frozen=True)
class TrackedVideoFrame:
    """N objects of one frame."""

    index: int
    ids: list[int]  # rising
    labels: list[str]  # the phrase that found each
    scores: np.ndarray  # (N,) float32
    masks: np.ndarray  # (N, H, W) bool


def _field(request: Request, name: str) -> Any:
    if request.get(name) is None:
        raise MissingFieldError(f"the request {request.get('type')!r} needs the field {name!r}")
    return request[name]


def _outputs(shown: ShownFrame) -> Response:
    objects = shown.objects
    return {
        "out_obj_ids": np.array(objects.obj_ids, dtype=np.int64),
        "out_labels": list(shown.labels),
        "out_probs": objects.scores.cpu().numpy(),
        "out_boxes_xywh": objects.boxes_xywh.cpu().numpy(),
        "out_binary_masks": objects.masks.cpu().numpy(),
        "frame_stats": {"num_obj_tracked": len(objects.obj_ids), "num_obj_dropped": 0},
    }


def _without_gradients(frames: Iterator[Any]) -> Iterator[Any]:
    """Each step of ``frames`` in inference mode, the caller's code between them outside of it."""
    while True:
        with torch.inference_mode():
            try:
                item = next(frames)
            except StopIteration:
                return
        yield item
