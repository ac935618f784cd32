"""A video that somebody works on: its frames, what is looked for in them, and the session that answers."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from sam3.errors import SessionError
from sam3.io.frames import FrameSource
from sam3.model.video.frame_output import FrameObjects
from sam3.model.video.perception import Perception, Question
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import Detections, VideoModel
from sam3.model.video.video_session import VideoSession
from sam3.model.video.video_state import VideoState
from sam3.ops.boxes import box_xywh_to_xyxy, box_xyxy_to_cxcywh
from sam3.structures import VISUAL_PHRASE, GeometricPrompt


@dataclass
class OpenVideo:
    """
    Args:
        model: the networks, in evaluation mode.
        source: the frames.
        settings: every threshold.
    """

    model: Sam3Video
    source: FrameSource
    settings: VideoSettings
    perception: Perception = field(init=False)
    session: VideoSession = field(init=False)

    def __post_init__(self) -> None:
        self.perception = Perception(
            self.model, self.source, self.settings.frames_per_chunk, self.settings.score_threshold
        )
        self.reset()

    def reset(self) -> None:
        """Forget every prompt and result."""
        self.perception.ask([])
        self._begin(self.settings)

    def look_for(self, frame: int, text: str | None, boxes: Any, labels: Any) -> FrameObjects:
        """Begin anew with a text, or an example box on this frame, or both."""
        if (boxes is None) != (labels is None):
            raise SessionError("bounding_boxes and bounding_box_labels belong together: give both or neither")
        example = None if boxes is None else _example(boxes, labels, self.model.detector.device)
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise SessionError(f"text must be a phrase, got {text!r}")
        phrase = self.model.detector.encode_text([text or VISUAL_PHRASE])
        # What only an example shows is not detected again, so nothing may be removed for not being detected.
        exempt = {"hotstart_delay": 0, "hotstart_unmatched": 0, "hotstart_duplicate": 0}
        is_seen_once = text is None or text == VISUAL_PHRASE
        self._begin(replace(self.settings, **exempt) if is_seen_once else self.settings)
        self.perception.ask([Question(phrase, example, frame, only_with_example=is_seen_once)])
        return self.session.prompt_concept(frame)

    def click(self, frame: int, obj_id: Any, points: Any, labels: Any) -> FrameObjects:
        """Clicks on one object, relative to the picture."""
        place = torch.as_tensor(np.asarray(points, dtype=np.float32)).reshape(-1, 2)
        if not len(place) or not bool(((place >= 0) & (place <= 1)).all()):
            raise SessionError("points must be (N, 2) x, y relative to the picture, 0 .. 1")
        return self.session.prompt_points(frame, int(obj_id), place, torch.as_tensor(np.asarray(labels)))

    def _begin(self, settings: VideoSettings) -> None:
        state = VideoState(self.source.size, len(self.source))
        self.session = VideoSession(
            VideoModel(self.model.tracker, settings),
            self._detect,
            self.perception.tracker_features,
            state,
            self.perception.expect,
        )

    def _detect(self, frame: int) -> Detections:
        return next(iter(self.perception.detect(frame)), self.perception.nothing())


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
