"""One thing that is looked for in a video, and the session of the objects that it names.

Concepts of a video share its frames, what the networks see of them, and the numbering of objects; nothing else: what is
found for one phrase does not depend on the other phrases.
"""

from dataclasses import dataclass

from sam3.model.video.perception import Question
from sam3.model.video.video_session import VideoSession


@dataclass(eq=False)
class Concept:
    """
    Args:
        label: of its objects: the phrase; "visual" where a box alone shows what is meant, "" where only clicks do.
        question: to the detector; None = only clicks make objects.
        session: of its objects.
    """

    label: str
    question: Question | None
    session: VideoSession
