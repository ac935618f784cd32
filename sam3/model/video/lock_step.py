"""Propagations of several concepts over the same frames: every frame is worked off for all of them before the next.

What is under way is written in the sessions alone, so that it can be left, saved, and gone on with. Outputs of a
concept may wait for later frames (:class:`~sam3.model.video.schedule.DelayBuffer`); a frame leaves when all answered.
"""

from collections.abc import Callable, Iterator, Sequence

from sam3.model.video.concept import Concept
from sam3.model.video.frame_output import FrameObjects
from sam3.model.video.schedule import Pass

Answers = list[tuple[Concept, FrameObjects]]


def in_lock_step(concepts: Callable[[], Sequence[Concept]]) -> Iterator[tuple[int, Answers]]:
    """Frame by frame, what shows of every concept, until nothing is under way.

    Args:
        concepts: those of the video now; asked again for each frame, so that concepts may come and go.
    """
    while running := [concept for concept in concepts() if concept.session.is_under_way]:
        frame = _answered(running)
        if frame is None:
            for concept in _furthest_behind(running):
                concept.session.advance()
            continue
        answers = [(concept, concept.session.take(frame)) for concept in running if frame in _pass(concept).ready]
        if known := [(concept, shown) for concept, shown in answers if shown is not None]:
            yield frame, known


def _pass(concept: Concept) -> Pass:
    return concept.session.state.under_way


def _furthest_behind(running: Sequence[Concept]) -> list[Concept]:
    """The concepts that have to work off the next frame."""
    left = [concept for concept in running if _pass(concept).next_frame is not None]
    if not left:
        return []
    choose = max if _pass(left[0]).is_reverse else min
    frame = choose(_pass(concept).next_frame for concept in left)
    return [concept for concept in left if _pass(concept).next_frame == frame]


def _answered(running: Sequence[Concept]) -> int | None:
    """The first frame that is ready and that no concept still has to answer."""
    choose = max if any(_pass(concept).is_reverse for concept in running) else min
    frame = choose((frame for concept in running for frame in _pass(concept).ready), default=None)
    if frame is None or any(_pass(concept).owes(frame) for concept in running):
        return None
    return frame
