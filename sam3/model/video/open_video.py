"""A video that somebody works on: its frames, what is looked for in them, and the sessions that answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from sam3.errors import SessionError, UserError, listed
from sam3.io.frames import FrameSource
from sam3.model.video.concept import Concept
from sam3.model.video.frame_output import FrameObjects, joined
from sam3.model.video.lock_step import in_lock_step
from sam3.model.video.perception import Perception, Question
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import Detections, HasFrame, VideoModel
from sam3.model.video.video_session import VideoSession
from sam3.model.video.video_state import ObjectIds, VideoState
from sam3.ops.boxes import box_xywh_to_xyxy, box_xyxy_to_cxcywh
from sam3.structures import VISUAL_PHRASE, GeometricPrompt


@dataclass
class ShownFrame:
    """What one frame shows of all that is looked for."""

    index: int
    labels: list[str]  # of each object: the phrase that found it
    objects: FrameObjects


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
    concepts: list[Concept] = field(default_factory=list, init=False)
    _ids: ObjectIds = field(default_factory=ObjectIds, init=False)

    def __post_init__(self) -> None:
        self.perception = Perception(
            self.model,
            self.source,
            self.settings.frames_per_chunk,
            self.settings.score_threshold,
            as_reference=self.settings.as_reference,
        )

    # --- prompts ---

    def reset(self) -> None:
        """Forget every prompt and result."""
        self._ids = ObjectIds()
        self._look_for([])

    def look_for(self, frame: int, text: str | None, boxes: Any, labels: Any, *, beside: bool = False) -> ShownFrame:
        """Find what a text names, or an example box on this frame shows, or both.

        Args:
            beside: next to what is looked for already; otherwise everything begins anew.
        """
        if (boxes is None) != (labels is None):
            raise SessionError("bounding_boxes and bounding_box_labels belong together: give both or neither")
        example = None if boxes is None else _example(boxes, labels, self.model.detector.device)
        if text is not None:
            _require_phrase(text)
        ids = self._ids if beside else ObjectIds()
        concept = self._concept(text, frame, example, ids)
        return self._prompt(frame, [concept], kept=self.concepts if beside else [], ids=ids)

    def look_for_each(self, frame: int, phrases: Sequence[str]) -> ShownFrame:
        """Begin anew with several phrases, each with objects of its own."""
        for phrase in phrases:
            _require_phrase(phrase)
        ids = ObjectIds()
        return self._prompt(frame, [self._concept(phrase, frame, None, ids) for phrase in phrases], kept=[], ids=ids)

    def click(self, frame: int, obj_id: Any, points: Any, labels: Any) -> ShownFrame:
        """Clicks on one object, relative to the picture."""
        place = torch.as_tensor(np.asarray(points, dtype=np.float32)).reshape(-1, 2)
        if not len(place) or not bool(((place >= 0) & (place <= 1)).all()):
            raise SessionError("points must be (N, 2) x, y relative to the picture, 0 .. 1")
        concept = self._concept_of(int(obj_id)) or next(iter(self.concepts), None)
        is_first = concept is None
        if is_first:
            concept = Concept("", None, VideoSession(**self._parts(None, self.settings, self._ids)))
        shown = concept.session.prompt_points(frame, int(obj_id), place, torch.as_tensor(np.asarray(labels)))
        if is_first:
            self.concepts = [concept]
        others = [(other, other.session.peek(frame)) for other in self.concepts if other is not concept]
        known = [(concept, shown)] + [(other, objects) for other, objects in others if objects is not None]
        return self._shown(frame, known)

    def remove_object(self, obj_id: int) -> None:
        """Forget an object, on every frame.

        Raises:
            UserError: there is no such object.
        """
        concept = self._concept_of(obj_id)
        if concept is None:
            known = sorted(known for concept in self.concepts for known in concept.session.state.obj_ids)
            raise UserError(f"there is no object {obj_id}; objects of this session: {listed(known) or 'none'}")
        concept.session.remove(obj_id)

    # --- propagation ---

    def propagate(
        self, start: int | None = None, *, limit: int | None = None, is_reverse: bool = False
    ) -> Iterator[ShownFrame]:
        """Carry what was prompted through the video, or hand out again what is known.

        Raises:
            UserError: nothing was prompted yet.
        """
        firsts = [min(concept.session.state.results.frames, default=None) for concept in self.concepts]
        first = min((frame for frame in firsts if frame is not None), default=None)
        if first is None and start is None:
            raise UserError("nothing to propagate: add a prompt first")
        for concept in self.concepts:
            concept.session.begin(start, limit=limit, is_reverse=is_reverse, first=first)
        yield from self.go_on()

    def go_on(self) -> Iterator[ShownFrame]:
        """The rest of the propagation that is under way."""
        passes = [concept.session.state.under_way for concept in self.concepts if concept.session.is_under_way]
        if passes:
            self.perception.expect(passes[0].frames(self._has_frame))
        for frame, answers in in_lock_step(lambda: self.concepts):
            yield self._shown(frame, answers)

    # --- parts ---

    @property
    def _has_frame(self) -> HasFrame | None:
        """Asked where a video of unknown length ends."""
        return self.source.has if self.source.num_frames is None else None

    def _prompt(self, frame: int, new: list[Concept], *, kept: list[Concept], ids: ObjectIds) -> ShownFrame:
        """Answer new concepts; nothing has changed if that fails."""
        before = self.concepts
        self._look_for([*kept, *new])
        try:
            answers = [(concept, concept.session.prompt_concept(frame)) for concept in new]
        except BaseException:
            self._look_for(before)
            raise
        self._ids = ids
        return self._shown(frame, answers)

    def _look_for(self, concepts: list[Concept]) -> None:
        self.concepts = concepts
        self.perception.ask([concept.question for concept in concepts if concept.question is not None])

    def _concept(self, text: str | None, frame: int, example: GeometricPrompt | None, ids: ObjectIds) -> Concept:
        label = text or VISUAL_PHRASE
        is_seen_once = label == VISUAL_PHRASE
        question = Question(self.model.detector.encode_text([label]), example, frame, only_with_example=is_seen_once)
        # What only an example shows is not detected again, so nothing may be removed for not being detected.
        exempt = {"hotstart_delay": 0, "hotstart_unmatched": 0, "hotstart_duplicate": 0}
        settings = replace(self.settings, **exempt) if is_seen_once else self.settings
        return Concept(label, question, VideoSession(**self._parts(question, settings, ids)))

    def _parts(self, question: Question | None, settings: VideoSettings, ids: ObjectIds) -> dict[str, Any]:
        return {
            "model": VideoModel(self.model.tracker, settings),
            "detect": lambda frame: self._detect(frame, question),
            "features": self.perception.tracker_features,
            "state": VideoState(self.source.size, self.source.num_frames, ids),
            "has_frame": self._has_frame,
        }

    def _detect(self, frame: int, question: Question | None) -> Detections:
        questions = [concept.question for concept in self.concepts if concept.question is not None]
        if question not in questions:
            return self.perception.nothing()
        return self.perception.detect(frame)[questions.index(question)]

    def _concept_of(self, obj_id: int) -> Concept | None:
        return next((c for c in self.concepts if c.session.state.session_of(obj_id) is not None), None)

    def _shown(self, frame: int, answers: Sequence[tuple[Concept, FrameObjects]]) -> ShownFrame:
        objects, parts = joined([shown for _, shown in answers])
        return ShownFrame(frame, [answers[part][0].label for part in parts], objects)


def _require_phrase(text: Any) -> None:
    if not isinstance(text, str) or not text.strip():
        raise SessionError(f"text must be a phrase, got {text!r}")


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
