"""One video in the hands of a person: prompts, corrections and removals in any order, and propagations between them.

Every frame is worked off once in each direction; what was is handed out again, and tracked again only for objects that
were clicked on since. Of the reference this follows from the kinds of earlier requests alone
(:func:`~sam3.model.video.schedule.next_propagation`). Source: spec/tracker_video.md 7.3 to 7.6.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from sam3.errors import SessionError, UserError
from sam3.model.tracker.session import FeatureSource, TrackerSession
from sam3.model.video.coverage import Coverage
from sam3.model.video.frame_output import FrameObjects
from sam3.model.video.schedule import Action, ActionKind, Pass, next_propagation, shortened
from sam3.model.video.video_model import Detector, HasFrame, VideoModel
from sam3.model.video.video_state import VideoState
from sam3.ops.components import clean_masks

_MADE_BY_A_PERSON = 1.0  # score of an object that somebody clicked on

Shown = tuple[int, FrameObjects]  # frame, what it shows


@dataclass
class VideoSession:
    """
    Args:
        model: the step.
        detect: gives the detections of a frame for the current text or example.
        features: gives the tracker's features of a frame.
        state: of the video; new and empty.
        has_frame: tells where a video of unknown length ends.
        has_concept: a text or an example says what is looked for; otherwise only clicks do.
    """

    model: VideoModel
    detect: Detector
    features: FeatureSource
    state: VideoState
    has_frame: HasFrame | None = None
    has_concept: bool = False

    # --- prompts ---

    def prompt_concept(self, frame: int) -> FrameObjects:
        """Find everything that the current text names, beginning anew on ``frame``."""
        if len(self.state.results) or self.state.sessions:
            self.state = VideoState(self.state.video_size, self.state.num_frames)
        self.has_concept = True
        self.model.step(self.state, frame, self.detect, self.features)
        return self.model.shown(self.state, frame, with_hidden=True)

    def prompt_points(
        self,
        frame: int,
        obj_id: int,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        box: Tensor | None = None,
        keep_points: bool = False,
        keep_box: bool = False,
    ) -> FrameObjects:
        """Clicks on one object: a new one, or a correction of a known one; nothing has changed if that fails.

        Args:
            points: (K, 2) xy, relative to the picture.
            labels: (K,) 1 = on it, 0 = off it.
            box: (4,) xyxy, relative to the picture.
            keep_points: earlier points of this frame count on.
            keep_box: an earlier box of this frame counts on.

        Raises:
            SessionError: there is no room for another object.
        """
        state = self.state
        state.results.require(frame)
        known = state.session_of(obj_id)
        session = known or self._new_session()
        session.add_points(frame, obj_id, points, labels, box=box, keep_points=keep_points, keep_box=keep_box)
        if known is None:
            state.sessions.append(session)
            state.ids.reserve(obj_id)
        index = session.obj_ids.index(obj_id)
        logits = session.video_masks(frame)[index]
        session.consolidate()
        self._let_clicks_rule(session, index, frame)
        self._accept(obj_id, frame)
        shown = clean_masks(logits, self.model.clean_area)[0] > 0
        state.results.put_object(frame, obj_id, shown, _MADE_BY_A_PERSON)
        self._note(Action(ActionKind.ADD if known is None else ActionKind.REFINE, frame, (obj_id,)))
        return self.model.shown(state, frame)

    def knows(self, obj_id: int) -> bool:
        """Whether an object is tracked, or was."""
        return obj_id in self.state.birth_scores or self.state.session_of(obj_id) is not None

    def remove(self, obj_id: int, *, is_user_action: bool = True) -> None:
        """Forget an object, on every frame.

        Args:
            is_user_action: it counts in the history of the reference, after which nothing is tracked again.

        Raises:
            UserError: there is no such object.
        """
        state = self.state
        if not self.knows(obj_id):
            known = ", ".join(map(str, sorted(state.obj_ids))) or "none"
            raise UserError(f"there is no object {obj_id}; objects of this session: {known}")
        state.drop([obj_id])
        state.birth_scores.pop(obj_id, None)
        state.clicked.pop(obj_id, None)
        state.hot_start.forget(obj_id)
        state.results.remove_object(obj_id)
        if is_user_action:
            self._note(Action(ActionKind.REMOVE, obj_ids=(obj_id,)))

    # --- propagation ---

    def propagate(
        self, start: int | None = None, *, limit: int | None = None, is_reverse: bool = False
    ) -> Iterator[Shown]:
        """Carry what was prompted through the video, or hand out again what is known.

        Raises:
            UserError: nothing was prompted yet.
        """
        self.begin(start, limit=limit, is_reverse=is_reverse)
        yield from self.go_on()

    def go_on(self) -> Iterator[Shown]:
        """The rest of the propagation that is under way, perhaps begun by another process."""
        while self.is_under_way:
            if not (ready := self.state.under_way.ready):
                self.advance()
            elif (shown := self.take(frame := ready[0])) is not None:
                yield frame, shown

    def begin(
        self,
        start: int | None = None,
        *,
        limit: int | None = None,
        is_reverse: bool = False,
        first: int | None = None,
        in_any_direction: bool = False,
    ) -> None:
        """Begin a propagation; :meth:`advance` does it, frame by frame.

        Args:
            start: as it was asked for; None = the first frame that has results, or ``first``.
            in_any_direction: a frame that was worked off in whatever direction is not worked off again.

        Raises:
            UserError: nothing was prompted yet.
        """
        state = self.state
        if start is None and not len(state.results) and first is None:
            raise UserError("nothing to propagate: add a prompt first")
        action = self._next_action(start)
        if start is None:
            start = min(state.results.frames) if first is None else first
        if action.kind is not ActionKind.FULL:
            state.results.require(start)
        known = max(state.results.frames, default=start) + 1
        end = known if action.kind is ActionKind.FETCH and state.num_frames is None else state.num_frames
        under_way = Pass.over(action, start, end, limit=limit, is_reverse=is_reverse)
        under_way.in_any_direction = in_any_direction
        state.under_way = under_way
        if action.kind is ActionKind.FULL and (
            under_way.last_frame is None or any(self._due(frame)[0] is ActionKind.FULL for frame in under_way.frames())
        ):
            under_way.delayed.delay = self.model.settings.hotstart_delay

    def join(self, other: Pass) -> None:
        """Take part in the propagation of another session, from the first frame on that was not handed out yet."""
        self.state.under_way = other.joined(self.model.settings.hotstart_delay)

    @property
    def is_under_way(self) -> bool:
        """Whether a propagation has frames left to work off or to hand out."""
        under_way = self.state.under_way
        return under_way is not None and (under_way.next_frame is not None or bool(under_way.ready))

    def advance(self) -> None:
        """Work off the next frame, if there is one; what may show now becomes ready."""
        state, under_way = self.state, self.state.under_way
        if (frame := under_way.next_frame) is None:
            return
        kind, obj_ids = self._due(frame)
        if kind is ActionKind.FULL:
            if not state.covered.is_continued_by(frame, is_reverse=under_way.is_reverse):
                self.model.begin_pass(state)
            self.model.step(state, frame, self.detect, self.features, is_reverse=under_way.is_reverse)
            state.covered.add(frame, is_reverse=under_way.is_reverse)
        else:
            state.results.require(frame)
        if kind is ActionKind.PARTIAL:
            self._track(frame, set(obj_ids), under_way.is_reverse)
            self.model.forget(state, frame, under_way.is_reverse)
        for obj_id in state.clicked if kind is ActionKind.FULL else obj_ids:
            if obj_id in state.clicked:
                state.clicked[obj_id].add(frame, is_reverse=under_way.is_reverse)
        under_way.advance(None if under_way.action.kind is ActionKind.FETCH else self.has_frame)

    def take(self, frame: int) -> FrameObjects | None:
        """Hand out what a frame shows; None where nothing is known of it."""
        self.state.under_way.ready.remove(frame)
        return self.peek(frame)

    def peek(self, frame: int) -> FrameObjects | None:
        """What a frame shows as far as is known now; None where nothing is."""
        return self.model.shown(self.state, frame) if frame in self.state.results else None

    # --- parts ---

    def _next_action(self, start: int | None) -> Action:
        """What a propagation has to do: of the reference, this follows from the history alone."""
        state = self.state
        if not self.model.settings.as_reference:
            return Action(ActionKind.FULL if self.has_concept else ActionKind.PARTIAL, start)
        action = next_propagation(state.history, state.num_frames)
        action = Action(action.kind, start, action.obj_ids)
        self._note(action)
        return action

    def _due(self, frame: int) -> tuple[ActionKind, tuple[int, ...]]:
        """What has to be done on a frame of the pass under way, and for which objects.

        A frame is worked off once in a direction; after that only objects that were clicked on since are tracked.
        """
        state, under_way = self.state, self.state.under_way
        if self.model.settings.as_reference:
            return under_way.action.kind, under_way.action.obj_ids or ()
        asked = {"is_reverse": under_way.is_reverse, "in_any_direction": under_way.in_any_direction}
        if self.has_concept and not state.covered.holds(frame, **asked):
            return ActionKind.FULL, ()
        due = tuple(obj_id for obj_id, covered in state.clicked.items() if not covered.holds(frame, **asked))
        return (ActionKind.PARTIAL if due else ActionKind.FETCH), due

    def _note(self, action: Action) -> None:
        if self.model.settings.as_reference:
            self.state.history = shortened([*self.state.history, action])

    def _new_session(self) -> TrackerSession:
        limit = self.model.max_objects
        if len(self.state.obj_ids) >= limit:
            raise SessionError(
                f"{len(self.state.obj_ids)} objects are tracked and the limit is {limit}: remove one before adding "
                "another, or raise max_objects or the memory_budget"
            )
        return self.model.new_session(self.state, self.features)

    def _accept(self, obj_id: int, frame: int) -> None:
        """What a person points at exists, whatever was counted about it."""
        state = self.state
        state.birth_scores[obj_id] = _MADE_BY_A_PERSON
        state.hot_start.removed.discard(obj_id)
        state.hot_start.first_frame.setdefault(obj_id, frame)
        state.clicked[obj_id] = Coverage()
        if self.model.settings.as_reference:  # where a click takes the confirmation away
            state.confirmation.confirmed.discard(obj_id)
        else:
            state.confirmation.confirmed.add(obj_id)
        state.results.unhide(obj_id)

    def _let_clicks_rule(self, session: TrackerSession, index: int, frame: int) -> None:
        """Near a click, what the detector said of the object before counts no longer."""
        window = self.model.settings.refinement_window
        for other, prompt in list(session.prompts[index].items()):
            if prompt.is_mask and abs(other - frame) <= window and other != frame:
                del session.prompts[index][other]
                session.drop_conditioning(other)

    def _track(self, frame: int, obj_ids: set[int], is_reverse: bool) -> None:
        """One frame further for the sessions of some objects; only these objects' masks are replaced."""
        state = self.state
        for session in state.sessions:
            if not obj_ids & set(session.obj_ids):
                continue
            out = session.step(frame, is_reverse=is_reverse)
            masks = clean_masks(out.low_res_masks[:, 0], self.model.clean_area)
            scores = out.object_score_logits[:, 0]
            scores = scores if self.model.settings.as_reference else scores.sigmoid()
            for row, obj_id in enumerate(out.obj_ids):
                if obj_id in obj_ids:
                    shown = session.to_video_size(masks[row][None, None])[0, 0] > 0
                    state.results.put_object(frame, obj_id, shown, float(scores[row]))
