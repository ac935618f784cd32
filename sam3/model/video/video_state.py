"""What is known of one video while it is worked off: objects, their sessions, their scores, what was shown.

Object ids are immutable and rise with time; who tracks an object where is this state's business alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sam3.model.tracker.session import TrackerSession
from sam3.model.video.coverage import Coverage
from sam3.model.video.lifecycle import Confirmation, HotStart
from sam3.model.video.results import Results
from sam3.model.video.schedule import Action, Pass
from sam3.model.video.settings import VideoSettings


@dataclass
class ObjectIds:
    """Numbers for the objects of a video, shared by all that is looked for in it: rising, never used twice."""

    next: int = 0

    def take(self, count: int) -> list[int]:
        """Ids that nothing had before."""
        ids = list(range(self.next, self.next + count))
        self.next += count
        return ids

    def reserve(self, obj_id: int) -> None:
        """A person chose this id."""
        self.next = max(self.next, obj_id + 1)


@dataclass
class VideoState:
    """
    Args:
        video_size: (height, width), pixels.
        num_frames: of the video; None = unknown, as of a camera.
        ids: where new objects get their numbers.
    """

    video_size: tuple[int, int]
    num_frames: int | None
    ids: ObjectIds = field(default_factory=ObjectIds)
    sessions: list[TrackerSession] = field(default_factory=list)
    birth_scores: dict[int, float] = field(default_factory=dict)  # of detections; 1 for what a person made
    last_occluded: dict[int, int] = field(default_factory=dict)
    empty_since: dict[int, int] = field(default_factory=dict)  # of objects without a pixel
    hot_start: HotStart = field(default_factory=HotStart)
    confirmation: Confirmation = field(default_factory=Confirmation)
    results: Results = field(init=False)  # what was found on each frame
    history: list[Action] = field(default_factory=list)
    under_way: Pass | None = None  # the propagation that was begun last
    covered: Coverage = field(default_factory=Coverage)  # frames on which everything was detected and tracked
    clicked: dict[int, Coverage] = field(default_factory=dict)  # object -> frames on which it was tracked since

    def __post_init__(self) -> None:
        self.results = Results(self.video_size)

    @property
    def obj_ids(self) -> list[int]:
        """Ids of the objects that are tracked, session by session."""
        return [obj_id for session in self.sessions for obj_id in session.obj_ids]

    def session_of(self, obj_id: int) -> TrackerSession | None:
        """The session that tracks an object."""
        return next((session for session in self.sessions if obj_id in session.obj_ids), None)

    def drop(self, obj_ids: Iterable[int]) -> None:
        """Stop tracking objects; sessions without objects go."""
        for obj_id in obj_ids:
            if (session := self.session_of(obj_id)) is not None:
                session.remove(obj_id)
            self.last_occluded.pop(obj_id, None)
            self.empty_since.pop(obj_id, None)
        self.sessions = [session for session in self.sessions if session.obj_ids]

    def hidden_on(self, frame: int) -> set[int]:
        """Ids that do not show on a frame, as far as is known now."""
        result = self.results.at(frame)
        return self.hot_start.removed | result.hidden | result.unconfirmed

    def forget_the_gone(self, settings: VideoSettings) -> None:
        """Nothing is kept of objects that are neither tracked nor on a frame that is kept."""
        known = {*self.obj_ids, *self.results.obj_ids}
        for obj_id in [obj_id for obj_id in self.birth_scores if obj_id not in known]:
            del self.birth_scores[obj_id]
        for obj_id in [obj_id for obj_id in self.clicked if obj_id not in known]:
            del self.clicked[obj_id]
        self.hot_start.keep_only(known, settings)
