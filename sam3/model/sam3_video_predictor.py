"""Videos for applications: sessions, prompts and propagation behind plain requests (spec/tracker_video.md 7).

docs/video.md shows the requests and their fields; a field that a request does not know is named in the log.
"""

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam3.errors import ConfigError, SessionError
from sam3.io.frames import VideoInput, open_frames
from sam3.model.video.limits import DEFAULT_LIMITS
from sam3.model.video.memory_budget import plan_memory
from sam3.model.video.open_video import OpenVideo, ShownFrame
from sam3.model.video.partners import ALONE, Partners
from sam3.model.video.prompts import (
    Request,
    read_clicks,
    read_example,
    read_flag,
    read_number,
    read_phrase,
    read_threshold,
    require,
)
from sam3.model.video.registry import Sessions
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.saving import next_frame, require_phrases
from sam3.model.video.settings import VideoSettings
from sam3.ops.sizes import parse_size

_log = logging.getLogger(__name__)

Response = dict[str, Any]

_DIRECTIONS = {"both": (False, True), "forward": (False,), "backward": (True,)}
_FIELDS = {
    "save_session": {"path"},
    "start_session": {"resource_path", "load_from", "offload_video_to_cpu", "offload_state_to_cpu"},
    "add_prompt": {
        "frame_index",
        "text",
        "keep_others",
        "bounding_boxes",
        "bounding_box_labels",
        "points",
        "point_labels",
        "obj_id",
        "rel_coordinates",
        "clear_old_points",
        "clear_old_boxes",
        "output_prob_thresh",
    },
    "remove_phrase": {"text"},
    "remove_object": {"obj_id", "is_user_action"},
    "cancel_propagation": set(),
    "reset_session": set(),
    "close_session": set(),
    "propagate_in_video": {
        "propagation_direction",
        "go_on",
        "start_frame_index",
        "max_frame_num_to_track",
        "output_prob_thresh",
    },
}  # beside type and session_id


class Sam3VideoPredictor:
    """
    Args:
        model: the networks, in evaluation mode.
        settings: every threshold of the video model.
        session_expiry_s: seconds without a request after which a session is closed; None = never.
        partners: processes that get the same requests and share the frames; clocks differ, so no session may expire.
        memory_budget: of a session, such as "4GiB": what it keeps, and how many objects it tracks, follow from it
            (docs/video_memory.md). Left out, nothing is dropped that a clip of minutes would miss.
    """

    def __init__(
        self,
        model: Sam3Video,
        settings: VideoSettings | None = None,
        *,
        session_expiry_s: float | None = None,
        partners: Partners = ALONE,
        memory_budget: str | int | None = None,
    ) -> None:
        if session_expiry_s is not None and partners.size > 1:
            raise ConfigError("session_expiry_s works in one process; close the sessions of several by request")
        self.partners = partners
        self.model = model
        self.settings = settings or VideoSettings()
        self.sessions = Sessions(session_expiry_s)
        self.memory_budget = None if memory_budget is None else parse_size(memory_budget, "memory_budget")
        self._is_shut_down = False

    # --- requests ---

    @torch.inference_mode()
    def handle_request(self, request: Request) -> Response:
        """Serve one request; docs/video.md lists the types and their fields.

        Raises:
            SessionError: an unknown type or session.
            MissingFieldError: a needed field is not there.
            UserError: what was given cannot be used; the session stays as it was.
        """
        handlers = {
            "start_session": self._start,
            "add_prompt": self._add_prompt,
            "remove_phrase": self._remove_phrase,
            "remove_object": self._remove_object,
            "cancel_propagation": self._cancel,
            "reset_session": self._reset,
            "save_session": self._save,
            "close_session": self._close,
        }
        return self._handler(request, handlers)(request)

    def handle_stream_request(self, request: Request) -> Iterator[Response]:
        """Serve ``propagate_in_video``: one response a frame. Other requests may come between them."""
        yield from self._handler(request, {"propagate_in_video": self._propagate})(request)

    def shutdown(self) -> None:
        """Close all sessions and free what they held; every later request is refused."""
        self.sessions.close_all()
        self._is_shut_down = True
        if self.model.detector.device.type == "cuda":
            torch.cuda.empty_cache()

    def _handler(self, request: Request, handlers: Mapping[str, Callable[[Request], Any]]) -> Callable[[Request], Any]:
        if self._is_shut_down:
            raise SessionError("this predictor was shut down; build another one")
        kind = request.get("type")
        if kind not in handlers:
            raise SessionError(f"invalid request type {kind!r}; expected one of {', '.join(handlers)}")
        if unknown := sorted(set(request) - _FIELDS[kind] - {"type", "session_id"}):
            _log.warning("%s: unknown fields are ignored: %s", kind, ", ".join(unknown))
        return handlers[kind]

    def _start(self, request: Request) -> Response:
        """Open a video; docs/video.md says what the two ``offload`` fields mean here."""
        read_flag(request, "offload_video_to_cpu", default=False)
        if read_flag(request, "offload_state_to_cpu", default=False):
            _log.warning(
                "offload_state_to_cpu changes nothing: results are on the CPU, and what the tracker remembers stays on "
                "the device, bounded by memory_budget"
            )
        session_id = request.get("session_id") or str(uuid.uuid4())
        self.sessions.require_free(session_id)
        saved = request.get("load_from")
        video = self.open(require(request, "resource_path"), first=0 if saved is None else next_frame(saved))
        if saved is not None:
            try:
                video.load(saved)
            except BaseException:
                video.close()
                raise
        self.sessions.add(session_id, video)
        return {"session_id": session_id}

    def _save(self, request: Request) -> Response:
        self._video(request).save(require(request, "path"))
        return {"is_success": True}

    def open(self, source: VideoInput, *, first: int = 0, is_one_pass: bool = False) -> OpenVideo:
        """A session of nobody's but the caller's, who closes it.

        Args:
            source: as of :meth:`track`.
            first: number of the first picture of a stream.
            is_one_pass: frames are worked off once, in one direction, and nobody clicks: then less is kept.

        Raises:
            DataError: no video.
            ConfigError: the memory budget is too small.
        """
        frames, limits = open_frames(source, first=first), DEFAULT_LIMITS
        if self.memory_budget is not None:
            chunk = self.settings.frames_per_chunk
            limits = plan_memory(self.memory_budget, self.model, frames.size, frames_per_chunk=chunk).limits
        if hasattr(frames, "keep"):
            frames.keep = limits.source_frames
        limits = limits.for_one_pass() if is_one_pass else limits
        return OpenVideo(self.model, frames, self.settings, self.partners, limits)

    def _add_prompt(self, request: Request) -> Response:
        video = self._video(request)
        require(request, "frame_index")
        frame = video.require_frame("frame_index", read_number(request, "frame_index"))
        threshold = read_threshold(request, "output_prob_thresh")
        if request.get("text") is not None and (request.get("points") is not None or request.get("obj_id") is not None):
            raise SessionError("points and obj_id belong to one object and exclude text: make two requests")
        if request.get("points") is not None or request.get("obj_id") is not None:
            shown = video.click(frame, read_clicks(request, video.source.size))
        else:
            shown = self._look_for(video, frame, request)
        return _response(shown, threshold)

    def _look_for(self, video: OpenVideo, frame: int, request: Request) -> ShownFrame:
        text, example = request.get("text"), read_example(request, video.source.size)
        if text is None and example is None:
            raise SessionError("add_prompt needs text, bounding_boxes with their labels, or points with obj_id")
        phrase = None if text is None else read_phrase(text)
        return video.look_for(frame, phrase, example, beside=read_flag(request, "keep_others", default=False))

    def _remove_phrase(self, request: Request) -> Response:
        self._video(request).remove_phrase(read_phrase(require(request, "text")))
        return {"is_success": True}

    def _remove_object(self, request: Request) -> Response:
        video, is_user_action = self._video(request), read_flag(request, "is_user_action", default=True)
        require(request, "obj_id")
        video.remove_object(read_number(request, "obj_id"), is_user_action=is_user_action)
        return {"is_success": True}

    def _cancel(self, request: Request) -> Response:
        self._video(request).cancel()
        return {"is_success": True}

    def _reset(self, request: Request) -> Response:
        self._video(request).reset()
        return {"is_success": True}

    def _close(self, request: Request) -> Response:
        if not self.sessions.close(require(request, "session_id")):
            _log.warning("close_session: there is no session %r", request["session_id"])
        return {"is_success": True}

    def _propagate(self, request: Request) -> Iterator[Response]:
        video = self._video(request)
        direction = request.get("propagation_direction", "both")
        if direction not in _DIRECTIONS:
            raise SessionError(f"propagation_direction is {direction!r}; expected one of {', '.join(_DIRECTIONS)}")
        start = video.require_frame("start_frame_index", read_number(request, "start_frame_index"))
        limit, threshold = read_number(request, "max_frame_num_to_track"), read_threshold(request, "output_prob_thresh")
        is_rest = read_flag(request, "go_on", default=False)
        frames = video.go_on() if is_rest else video.propagate(start, limit=limit, directions=_DIRECTIONS[direction])
        for shown in _without_gradients(frames):
            self.sessions.touch(request["session_id"])
            yield _response(shown, threshold)

    def _video(self, request: Request) -> OpenVideo:
        return self.sessions.get(require(request, "session_id"))

    # --- plain Python ---

    def track(
        self,
        source: VideoInput,
        prompts: str | Sequence[str] | None = None,
        *,
        start: int = 0,
        prompt: str | None = None,
        save_to: str | Path | None = None,
        save_every: int = 100,
        resume_from: str | Path | None = None,
    ) -> Iterator["TrackedVideoFrame"]:
        """Everything that the phrases name, frame by frame from ``start`` on, each object with one id throughout.

        Args:
            source: folder of pictures, picture, video file, list or iterator of pictures, device or address.
            prompts: one phrase or several; phrases do not influence each other.
            prompt: the same, under its former name.
            save_to: file to go on from after a crash, written anew after every ``save_every`` frames: as soon as the
                next frame is asked for, so that the caller has dealt with all frames before.
            resume_from: such a file; the frames that follow it come, at most ``save_every`` of them a second time. A
                source of unknown length must go on at frame ``next_frame(resume_from)``
                (:func:`sam3.model.video.saving.next_frame`).

        Raises:
            SessionError: no phrase, an empty one, or ``start`` outside the video.
            DataError: ``resume_from`` was saved with other weights, settings, phrases or for another video.
        """
        given = prompts if prompts is not None else prompt
        phrases = [given] if isinstance(given, str) else list(given or ())
        if not phrases:
            raise SessionError("track needs at least one phrase in prompts")
        first = 0 if resume_from is None else next_frame(resume_from)
        video = self.open(source, first=first, is_one_pass=True)
        try:
            with torch.inference_mode():
                if resume_from is not None:
                    video.load(resume_from)
                    require_phrases(video, phrases, resume_from)
                else:
                    video.require_frame("start", start)
                    video.look_for_each(start, [read_phrase(phrase) for phrase in phrases])
            frames = video.propagate(start) if resume_from is None else video.go_on()
            for number, shown in enumerate(_without_gradients(frames), 1):
                yield _tracked(shown)
                if save_to is not None and number % save_every == 0:
                    video.save(save_to)
        finally:
            video.close()


def _tracked(shown: ShownFrame) -> "TrackedVideoFrame":
    return TrackedVideoFrame(
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


def _response(shown: ShownFrame, threshold: float | None) -> Response:
    """What a frame shows, without objects whose score is below ``threshold``."""
    objects = shown.objects
    ids, scores = np.array(objects.obj_ids, dtype=np.int64), objects.scores.cpu().numpy()
    kept = np.ones(len(ids), dtype=bool) if threshold is None else scores >= threshold
    outputs = {
        "out_obj_ids": ids[kept],
        "out_labels": [label for label, yes in zip(shown.labels, kept.tolist(), strict=True) if yes],
        "out_probs": scores[kept],
        "out_boxes_xywh": objects.boxes_xywh.cpu().numpy()[kept],
        "out_binary_masks": objects.masks.cpu().numpy()[kept],
        "frame_stats": {"num_obj_tracked": len(ids), "num_obj_dropped": objects.num_dropped},
    }
    return {"frame_index": shown.index, "outputs": outputs}


def _without_gradients(frames: Iterator[Any]) -> Iterator[Any]:
    """Each step of ``frames`` in inference mode, the caller's code between them outside of it."""
    while True:
        with torch.inference_mode():
            try:
                item = next(frames)
            except StopIteration:
                return
        yield item
