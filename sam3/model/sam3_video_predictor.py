"""Videos for applications: sessions, prompts and propagation behind plain requests (spec/tracker_video.md 7).

Memory is not bounded yet: masks of every frame stay in a session until it is closed.
"""

import logging
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sam3.errors import UserError
from sam3.io.frames import FrameSource, open_frames
from sam3.model.tracker.tracker import TrackerFeatures
from sam3.model.video.frame_output import FrameObjects
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import Detections, VideoModel
from sam3.model.video.video_session import VideoSession
from sam3.model.video.video_state import VideoState
from sam3.ops.boxes import box_xywh_to_xyxy, box_xyxy_to_cxcywh, inverse_sigmoid
from sam3.ops.images import preprocess
from sam3.structures import VISUAL_PHRASE, GeometricPrompt, ImageFeatures, TextFeatures

_log = logging.getLogger(__name__)

Request = Mapping[str, Any]
Response = dict[str, Any]

_LOGIT_LIMIT = 10.0
_DIRECTIONS = {"both": (False, True), "forward": (False,), "backward": (True,)}
_KEPT_FEATURES = 2  # frames whose features are kept


class SessionError(UserError, RuntimeError):
    """A request that this session, or this predictor, cannot serve."""


class MissingFieldError(UserError, KeyError):
    """A request without a field that it needs."""

    __str__ = UserError.__str__


class Sam3VideoPredictor:
    """
    Args:
        model: the networks, in evaluation mode.
        settings: every threshold of the video model.
    """

    def __init__(self, model: Sam3Video, settings: VideoSettings | None = None) -> None:
        self.model = model
        self.settings = settings or VideoSettings()
        self._sessions: dict[str, _OpenVideo] = {}
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
        self._sessions[session_id] = _OpenVideo(self.model, source, self.settings)
        return {"session_id": session_id}

    def _add_prompt(self, request: Request) -> Response:
        video, frame = self._video(request), int(_field(request, "frame_index"))
        if not 0 <= frame < len(video.source):
            raise SessionError(f"frame_index {frame} is outside the video of {len(video.source)} frames")
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
        self._video(request).session.remove(int(_field(request, "obj_id")))
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
            frames = video.session.propagate(
                request.get("start_frame_index"), limit=request.get("max_frame_num_to_track"), is_reverse=is_reverse
            )
            for frame, shown in _without_gradients(frames):
                yield {"frame_index": frame, "outputs": _outputs(shown)}

    def _video(self, request: Request) -> "_OpenVideo":
        session_id = _field(request, "session_id")
        if session_id not in self._sessions:
            raise SessionError(f"Cannot find session {session_id!r}; it was never started, or was closed")
        return self._sessions[session_id]

    # --- plain Python ---

    def track(
        self, source: str | Path | Sequence[Image.Image], prompt: str, *, start: int = 0
    ) -> Iterator["TrackedVideoFrame"]:
        """Everything that ``prompt`` names, frame by frame from ``start`` on, each object with one id throughout."""
        video = _OpenVideo(self.model, open_frames(source), self.settings)
        with torch.inference_mode():
            video.look_for(start, prompt, None, None)
        for frame, shown in _without_gradients(video.session.propagate(start)):
            yield TrackedVideoFrame(
                index=frame,
                ids=shown.obj_ids,
                labels=[prompt] * len(shown.obj_ids),
                scores=shown.scores.numpy(),
                masks=shown.masks.numpy(),
            )


@dataclass(frozen=True)
class TrackedVideoFrame:
    """N objects of one frame."""

    index: int
    ids: list[int]  # rising
    labels: list[str]  # the phrase that found each
    scores: np.ndarray  # (N,) float32
    masks: np.ndarray  # (N, H, W) bool


@dataclass
class _OpenVideo:
    """A video that somebody works on: its frames, what is looked for, and the features of the latest frames."""

    model: Sam3Video
    source: FrameSource
    settings: VideoSettings
    session: VideoSession = field(init=False)
    _text: TextFeatures | None = field(default=None, init=False)
    _example: tuple[int, GeometricPrompt] | None = field(default=None, init=False)  # frame, boxes
    _features: OrderedDict[int, ImageFeatures] = field(default_factory=OrderedDict, init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every prompt and result."""
        self._text = self._example = None
        self._begin(self.settings)

    def look_for(self, frame: int, text: str | None, boxes: Any, labels: Any) -> FrameObjects:
        """Begin anew with a text, or an example box on this frame, or both."""
        if (boxes is None) != (labels is None):
            raise SessionError("bounding_boxes and bounding_box_labels belong together: give both or neither")
        example = None if boxes is None else _example(boxes, labels, self.model.detector.device)
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise SessionError(f"text must be a phrase, got {text!r}")
        self._text = self.model.detector.encode_text([text or VISUAL_PHRASE])
        self._example = None if example is None else (frame, example)
        # What only an example shows is not detected again, so nothing may be removed for not being detected.
        exempt = {"hotstart_delay": 0, "hotstart_unmatched": 0, "hotstart_duplicate": 0}
        is_seen_once = text is None or text == VISUAL_PHRASE
        self._begin(replace(self.settings, **exempt) if is_seen_once else self.settings)
        self._is_seen_once = is_seen_once
        return self.session.prompt_concept(frame)

    def click(self, frame: int, obj_id: Any, points: Any, labels: Any) -> FrameObjects:
        """Clicks on one object, relative to the picture."""
        place = torch.as_tensor(np.asarray(points, dtype=np.float32)).reshape(-1, 2)
        if not len(place) or not bool(((place >= 0) & (place <= 1)).all()):
            raise SessionError("points must be (N, 2) x, y relative to the picture, 0 .. 1")
        return self.session.prompt_points(frame, int(obj_id), place, torch.as_tensor(np.asarray(labels)))

    def _begin(self, settings: VideoSettings) -> None:
        self._is_seen_once = False
        state = VideoState(self.source.size, len(self.source))
        self.session = VideoSession(
            VideoModel(self.model.tracker, settings), self._detect, self._tracker_features, state
        )

    def _image_features(self, frame: int) -> ImageFeatures:
        if frame not in self._features:
            detector = self.model.detector
            pixels = preprocess(self.source.frame(frame), detector.config.vision.image_size, (0.5,) * 3, (0.5,) * 3)
            self._features[frame] = detector.encode_image(pixels[None].to(detector.device))
            while len(self._features) > _KEPT_FEATURES:
                self._features.popitem(last=False)
        return self._features[frame]

    def _tracker_features(self, frame: int) -> TrackerFeatures:
        return self.model.tracker.features(self._image_features(frame).second_pyramid)

    def _detect(self, frame: int) -> Detections:
        detector, side = self.model.detector, self.model.tracker.config.low_res_size
        device = detector.device
        on_this_frame = self._example is not None and self._example[0] == frame
        if self._text is None or (self._is_seen_once and not on_this_frame):
            nothing = torch.zeros(0, device=device)
            return Detections(nothing, nothing.reshape(0, 4), nothing.reshape(0, side, side))
        first = torch.zeros(1, dtype=torch.long, device=device)
        found = detector.ground(
            self._image_features(frame),
            self._text,
            image_index=first,
            phrase_index=first,
            prompt=self._example[1] if on_this_frame else None,
        ).one_to_one
        scores = inverse_sigmoid(found.scores()[0]).clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT).sigmoid()
        return Detections(scores, found.boxes_xyxy[0].float(), found.masks[0].float())


def _example(boxes: Any, labels: Any, device: torch.device) -> GeometricPrompt:
    values = torch.as_tensor(np.asarray(boxes, dtype=np.float32)).reshape(-1, 4)
    if len(values) != 1:
        raise SessionError(f"one box shows an example, got {len(values)}")
    xyxy = box_xywh_to_xyxy(values)
    if (
        not bool(((values >= 0) & (values <= 1)).all())
        or bool((values[:, 2:] <= 0).any())
        or bool((xyxy > 1.0001).any())
    ):
        raise SessionError(
            f"bounding_boxes must be x, y, width, height relative to the picture, got {values[0].tolist()}"
        )
    return GeometricPrompt.empty(1, device).append_box(
        box_xyxy_to_cxcywh(xyxy)[0], bool(np.asarray(labels).reshape(-1)[0])
    )


def _field(request: Request, name: str) -> Any:
    if request.get(name) is None:
        raise MissingFieldError(f"the request {request.get('type')!r} needs the field {name!r}")
    return request[name]


def _outputs(shown: FrameObjects) -> Response:
    return {
        "out_obj_ids": np.array(shown.obj_ids, dtype=np.int64),
        "out_probs": shown.scores.cpu().numpy(),
        "out_boxes_xywh": shown.boxes_xywh.cpu().numpy(),
        "out_binary_masks": shown.masks.cpu().numpy(),
        "frame_stats": {"num_obj_tracked": len(shown.obj_ids), "num_obj_dropped": 0},
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
