"""What is known of a video as plain values and named tensors, and back. Nothing is computed, so nothing changes.

Dictionaries become lists of pairs, in their order: it decides in which order frames are remembered.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor

from sam3.model.tracker.memory_bank import FrameMemory
from sam3.model.tracker.session import Prompt, TrackerSession
from sam3.model.video.coverage import Coverage
from sam3.model.video.lifecycle import Confirmation, HotStart
from sam3.model.video.results import FrameResult, Results
from sam3.model.video.schedule import Action, ActionKind, DelayBuffer, Pass
from sam3.model.video.video_session import VideoSession

Record = dict[str, Any]
_MEMORY_TENSORS = ("memory", "low_res_masks", "pointers", "object_score_logits", "ious")
_PROMPT_TENSORS = ("points", "labels")


class Tensors:
    """Tensors by running number.

    Args:
        known: those of a file.
        device: to which they are taken.
    """

    def __init__(self, known: Mapping[str, Tensor] | None = None, device: torch.device | None = None) -> None:
        self.values = dict(known or {})
        self._device = device

    def put(self, tensor: Tensor | None) -> str | None:
        """Name under which a tensor is kept; None stays None."""
        if tensor is None:
            return None
        name = f"{len(self.values):07d}"
        self.values[name] = tensor.detach().to("cpu", copy=True).contiguous()
        return name

    def take(self, name: str | None) -> Tensor | None:
        """The tensor of a name."""
        return None if name is None else self.values[name].to(self._device)


# --- a state ---


def record_of(session: VideoSession, tensors: Tensors) -> Record:
    """Everything that decides how the video goes on."""
    state = session.state
    return {
        "has_concept": session.has_concept,
        "sessions": [_session(session, tensors) for session in state.sessions],
        "birth_scores": _pairs(state.birth_scores),
        "last_occluded": _pairs(state.last_occluded),
        "empty_since": _pairs(state.empty_since),
        "hot_start": {
            "first_frame": _pairs(state.hot_start.first_frame),
            "unmatched_frames": _pairs(state.hot_start.unmatched_frames),
            "keep_alive": _pairs(state.hot_start.keep_alive),
            "shared": _pairs(state.hot_start.shared),
            "removed": sorted(state.hot_start.removed),
        },
        "confirmation": {
            "in_a_row": _pairs(state.confirmation.in_a_row),
            "confirmed": sorted(state.confirmation.confirmed),
        },
        "results": [
            [
                frame,
                _pairs(result.runs),
                _pairs(result.tracker_scores),
                sorted(result.hidden),
                result.num_dropped,
                sorted(result.unconfirmed),
            ]
            for frame, result in state.results.frames.items()
        ],
        "forgotten": state.results.forgotten,
        "covered": asdict(state.covered),
        "clicked": [[obj_id, asdict(covered)] for obj_id, covered in state.clicked.items()],
        "history": [_action(action) for action in state.history],
        "under_way": None if state.under_way is None else _pass(state.under_way),
    }


def restore(record: Record, tensors: Tensors, into: VideoSession) -> None:
    """Fill a new and empty session of a video from its record."""
    state = into.state
    into.has_concept = record["has_concept"]
    state.sessions = [_session_again(values, tensors, into) for values in record["sessions"]]
    state.birth_scores = dict(record["birth_scores"])
    state.last_occluded = dict(record["last_occluded"])
    state.empty_since = dict(record["empty_since"])
    counts = record["hot_start"]
    state.hot_start = HotStart(
        first_frame=dict(counts["first_frame"]),
        unmatched_frames=dict(counts["unmatched_frames"]),
        keep_alive=dict(counts["keep_alive"]),
        shared={tuple(pair): frames for pair, frames in counts["shared"]},
        removed=set(counts["removed"]),
    )
    state.confirmation = Confirmation(
        in_a_row=dict(record["confirmation"]["in_a_row"]), confirmed=set(record["confirmation"]["confirmed"])
    )
    found = {
        frame: FrameResult(dict(runs), dict(scores), set(hidden), dropped, set(unconfirmed))
        for frame, runs, scores, hidden, dropped, unconfirmed in record["results"]
    }
    forgotten = record["forgotten"]
    state.results = Results(state.video_size, found, None if forgotten is None else tuple(forgotten))
    state.covered = _coverage_again(record["covered"])
    state.clicked = {obj_id: _coverage_again(covered) for obj_id, covered in record["clicked"]}
    state.history = [_action_again(values) for values in record["history"]]
    state.under_way = None if record["under_way"] is None else _pass_again(record["under_way"])


def _coverage_again(values: Record) -> Coverage:
    latest = values["latest"]
    ranges = {key: [tuple(ends) for ends in values[key]] for key in ("forward", "backward")}
    return Coverage(**ranges, latest=None if latest is None else tuple(latest))


def _pairs(values: Mapping[Any, Any]) -> list[list[Any]]:
    return [[key, value] for key, value in values.items()]


# --- parts ---


def _session(session: TrackerSession, tensors: Tensors) -> Record:
    if any(session.pending):
        raise RuntimeError("a session is saved between frames, when every answer has become part of its memory")
    return {
        "obj_ids": session.obj_ids,
        "prompts": [
            [[frame, [tensors.put(getattr(prompt, name)) for name in _PROMPT_TENSORS]] for frame, prompt in one.items()]
            for one in session.prompts
        ],
        "conditioning": [[frame, _memory(entry, tensors)] for frame, entry in session.conditioning.items()],
        "tracked": [[frame, _memory(entry, tensors)] for frame, entry in session.tracked.items()],
        "visited": _pairs(session.visited),
    }


def _session_again(values: Record, tensors: Tensors, owner: VideoSession) -> TrackerSession:
    session = owner.model.new_session(owner.state, owner.features)
    session.obj_ids = list(values["obj_ids"])
    session.prompts = [
        {frame: Prompt(*(tensors.take(name) for name in names)) for frame, names in one} for one in values["prompts"]
    ]
    session.pending = [{} for _ in session.obj_ids]
    session.conditioning = {frame: _memory_again(entry, tensors) for frame, entry in values["conditioning"]}
    session.tracked = {frame: _memory_again(entry, tensors) for frame, entry in values["tracked"]}
    session.visited = dict(values["visited"])
    return session


def _memory(entry: FrameMemory, tensors: Tensors) -> Record:
    return {name: tensors.put(getattr(entry, name)) for name in _MEMORY_TENSORS} | {"frame_score": entry.frame_score}


def _memory_again(values: Record, tensors: Tensors) -> FrameMemory:
    return FrameMemory(
        **{name: tensors.take(values[name]) for name in _MEMORY_TENSORS}, frame_score=values["frame_score"]
    )


def _action(action: Action) -> Record:
    return asdict(action) | {"kind": action.kind.value}


def _action_again(values: Record) -> Action:
    ids = values["obj_ids"]
    return Action(ActionKind(values["kind"]), values["frame"], None if ids is None else tuple(ids))


def _pass(under_way: Pass) -> Record:
    plain = {entry.name: getattr(under_way, entry.name) for entry in fields(under_way)}
    return plain | {
        "action": _action(under_way.action),
        "delayed": [under_way.delayed.delay, list(under_way.delayed)],
        "ready": list(under_way.ready),
    }


def _pass_again(values: Record) -> Pass:
    delay, waiting = values["delayed"]
    again = {
        "action": _action_again(values["action"]),
        "delayed": DelayBuffer(delay, waiting),
        "ready": deque(values["ready"]),
    }
    return Pass(**(values | again))
