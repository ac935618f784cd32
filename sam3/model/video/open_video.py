"""A video that somebody works on: its frames, what is looked for in them, and the sessions that answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sam3.errors import SessionError, listed
from sam3.io.frames import FrameSource
from sam3.model.video.concept import Concept
from sam3.model.video.frame_output import FrameObjects, joined
from sam3.model.video.limits import DEFAULT_LIMITS, MemoryLimits
from sam3.model.video.lock_step import in_lock_step
from sam3.model.video.partners import ALONE, Partners
from sam3.model.video.perception import Perception, Question
from sam3.model.video.prompts import Clicks, Example
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.saving import restore_video, save_video
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import Detections, HasFrame, VideoModel
from sam3.model.video.video_session import VideoSession
from sam3.model.video.video_state import ObjectIds, VideoState
from sam3.ops.boxes import box_xyxy_to_cxcywh
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
        partners: processes that do the same and share the frames.
        limits: what is kept, all phrases together.
    """

    model: Sam3Video
    source: FrameSource
    settings: VideoSettings
    partners: Partners = ALONE
    limits: MemoryLimits = DEFAULT_LIMITS
    perception: Perception = field(init=False)
    concepts: list[Concept] = field(default_factory=list, init=False)
    ids: ObjectIds = field(default_factory=ObjectIds, init=False)
    later: list[Mapping[str, Any]] = field(default_factory=list, init=False)  # passes that follow the one under way
    _turn: int = field(default=0, init=False)  # rises when a propagation has to end

    def __post_init__(self) -> None:
        self.perception = Perception(
            self.model,
            self.source,
            self.settings.frames_per_chunk,
            self.settings.score_threshold,
            partners=self.partners,
            as_reference=self.settings.as_reference,
        )

    # --- prompts ---

    def require_frame(self, name: str, frame: int | None) -> int | None:
        """The number of a frame of this video, as it came in the field ``name``; None stays None.

        Raises:
            SessionError: there is no such frame.
        """
        if frame is not None and (frame < 0 or not self.source.has(frame)):
            count = self.source.num_frames
            length = "that is open" if count is None else f"of {count} frames (0 .. {count - 1})"
            raise SessionError(f"{name} {frame} is outside the video {length}")
        return frame

    def reset(self) -> None:
        """Forget every prompt and result."""
        self.cancel()
        self.ids = ObjectIds()
        self._look_for([])

    def look_for(
        self, frame: int, phrase: str | None, example: Example | None = None, *, beside: bool = False
    ) -> ShownFrame:
        """Find what a phrase names, or an example box on this frame shows, or both.

        Args:
            beside: next to what is looked for already, also while a propagation is under way; otherwise everything
                begins anew.
        """
        if beside and phrase is not None and phrase in self.phrases:
            raise SessionError(f"the phrase {phrase!r} is looked for already; remove_phrase ends that")
        ids = self.ids if beside else ObjectIds()
        concept = self._concept(phrase, frame, None if example is None else self._prompt_of(example), ids)
        return self._prompt(frame, [concept], kept=self.concepts if beside else [], ids=ids)

    def look_for_each(self, frame: int, phrases: Sequence[str]) -> ShownFrame:
        """Begin anew with several phrases, each with objects of its own; one that is named twice counts once."""
        ids = ObjectIds()
        concepts = [self._concept(phrase, frame, None, ids) for phrase in dict.fromkeys(phrases)]
        return self._prompt(frame, concepts, kept=[], ids=ids)

    def click(self, frame: int, clicks: Clicks) -> ShownFrame:
        """Clicks on one object; a new one joins what is looked for first."""
        concept = self._concept_of(clicks.obj_id) or next(iter(self.concepts), None)
        is_first = concept is None
        if is_first:
            concept = Concept("", None, VideoSession(**self._parts(None, self.settings, self.ids)))
        shown = concept.session.prompt_points(
            frame,
            clicks.obj_id,
            clicks.points if len(clicks.points) else None,
            clicks.labels if len(clicks.points) else None,
            box=clicks.box,
            keep_points=clicks.keep_points,
            keep_box=clicks.keep_box,
        )
        if is_first:
            self.concepts = [concept]
        others = [(other, other.session.peek(frame)) for other in self.concepts if other is not concept]
        return self._shown(frame, [(concept, shown)] + [(other, seen) for other, seen in others if seen is not None])

    def remove_object(self, obj_id: int, *, is_user_action: bool = True) -> None:
        """Forget an object, on every frame.

        Args:
            is_user_action: the next propagation hands out what is left. Otherwise it does what it would have done.

        Raises:
            SessionError: there is no such object.
        """
        concept = self._concept_of(obj_id)
        if concept is None:
            known = sorted(known for concept in self.concepts for known in concept.session.state.obj_ids)
            raise SessionError(f"there is no object {obj_id}; objects of this session: {listed(known) or 'none'}")
        concept.session.remove(obj_id, is_user_action=is_user_action)

    def remove_phrase(self, phrase: str) -> None:
        """Look for a phrase no longer, and forget its objects.

        Raises:
            SessionError: nobody looks for it.
        """
        if phrase not in self.phrases:
            raise SessionError(
                f"nobody looks for {phrase!r}; phrases of this session: {listed(self.phrases) or 'none'}"
            )
        self._look_for([concept for concept in self.concepts if concept.label != phrase])

    @property
    def phrases(self) -> list[str]:
        """What is looked for."""
        return [concept.label for concept in self.concepts if concept.question is not None]

    # --- saving ---

    def save(self, path: str | Path) -> None:
        """Write a file with which :meth:`load` goes on, with equal results, also in the middle of a propagation."""
        save_video(self, path)

    def load(self, path: str | Path) -> None:
        """Become what :meth:`save` wrote of the same video; :meth:`go_on` goes on with what was under way.

        Raises:
            DataError: no such file, or one of something else, or made for other weights, settings or videos; nothing
                has changed.
        """
        restore_video(self, path)

    def begin_again(self, concepts: Sequence[Mapping[str, Any]], next_id: int, later: Sequence[Mapping]) -> None:
        """New and empty concepts in place of what there was, as a file describes them.

        Args:
            later: passes that follow the one under way, as :attr:`later` holds them.
        """
        self.cancel()
        self.ids, self.later = ObjectIds(next_id), list(later)
        self._look_for([self._described(**values) for values in concepts])

    # --- propagation ---

    def propagate(
        self, start: int | None = None, *, limit: int | None = None, directions: Sequence[bool] = (False,)
    ) -> Iterator[ShownFrame]:
        """Carry what was prompted through the video, or hand out again what is known.

        It ends early when it is cancelled, everything begins anew, or another propagation begins.

        Args:
            directions: of the passes, one after the other; True = backward.

        Raises:
            SessionError: nothing was prompted yet.
        """
        first = self._first_frame()
        if first is None:
            raise SessionError("nothing to propagate: add a prompt first")
        self.cancel()
        asked = {"start": start, "limit": limit, "first": first, "in_any_direction": len(directions) > 1}
        self.later = [asked | {"is_reverse": is_reverse} for is_reverse in directions]
        yield from self.go_on()

    def cancel(self) -> None:
        """End the propagation that is under way, between two frames."""
        self._turn += 1
        self.later = []
        for concept in self.concepts:
            concept.session.state.under_way = None

    def close(self) -> None:
        """Let go of everything; a propagation ends."""
        self.reset()
        if hasattr(self.source, "close"):
            self.source.close()

    def go_on(self) -> Iterator[ShownFrame]:
        """The rest of the propagation that is under way."""
        turn = self._turn
        while self._turn == turn:
            passes = [concept.session.state.under_way for concept in self.concepts if concept.session.is_under_way]
            if passes:
                self.perception.expect(passes[0].frames(self._has_frame))
            for frame, answers in in_lock_step(lambda: self.concepts if self._turn == turn else []):
                yield self._shown(frame, answers)
            if self._turn != turn or not self.later:
                return
            following = self.later.pop(0)
            for concept in self.concepts:
                concept.session.begin(**following)

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
        if not kept:
            self._turn += 1
        elif under_way := next((c.session.state.under_way for c in kept if c.session.is_under_way), None):
            for concept in new:
                concept.session.join(under_way)
        self.ids = ids
        return self._shown(frame, answers)

    def _first_frame(self) -> int | None:
        """That something is known of."""
        firsts = [min(concept.session.state.results.frames, default=None) for concept in self.concepts]
        return min((frame for frame in firsts if frame is not None), default=None)

    def _look_for(self, concepts: list[Concept]) -> None:
        self.concepts = concepts
        for concept in concepts:
            concept.session.model.limits = self.limits.shared_by(len(concepts))
        self.perception.ask([concept.question for concept in concepts if concept.question is not None])

    def _prompt_of(self, example: Example) -> GeometricPrompt:
        box = box_xyxy_to_cxcywh(example.box[None])[0]
        return GeometricPrompt.empty(1, self.model.detector.device).append_box(box, example.is_positive)

    def _concept(self, phrase: str | None, frame: int, example: GeometricPrompt | None, ids: ObjectIds) -> Concept:
        label = phrase or VISUAL_PHRASE
        is_seen_once = label == VISUAL_PHRASE
        settings = self.settings
        question = Question(
            self.model.detector.encode_text([label]),
            example,
            frame,
            only_with_example=is_seen_once,
            lingers=settings.as_reference,
        )
        if is_seen_once and not settings.as_reference:
            # What only an example shows is not detected again, so nothing may be removed for not being detected.
            settings = replace(settings, hotstart_delay=0, hotstart_unmatched=0, hotstart_duplicate=0)
        return Concept(label, question, VideoSession(**self._parts(question, settings, ids)))

    def _described(
        self, *, label: str, is_asked: bool, example: GeometricPrompt | None, example_frame: int | None
    ) -> Concept:
        if is_asked:
            return self._concept(label, example_frame, example, self.ids)
        return Concept(label, None, VideoSession(**self._parts(None, self.settings, self.ids)))

    def _parts(self, question: Question | None, settings: VideoSettings, ids: ObjectIds) -> dict[str, Any]:
        return {
            "model": VideoModel(self.model.tracker, settings, self.limits, partners=self.partners),
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
        return next((concept for concept in self.concepts if concept.session.knows(obj_id)), None)

    def _shown(self, frame: int, answers: Sequence[tuple[Concept, FrameObjects]]) -> ShownFrame:
        objects, parts = joined([shown for _, shown in answers])
        return ShownFrame(frame, [answers[part][0].label for part in parts], objects)
