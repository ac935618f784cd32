"""The tracker's work on a frame, object by object shared out among processes (spec/tracker_video.md 6.13).

Every process knows all sessions and everything that is remembered, so nothing about the objects depends on who worked
on them: the groups that score and separate their objects together stay whole. What is shared is the work of the
networks. Objects are dealt out in turn on every frame, so no process ever has more than one object more than another.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sam3.model.tracker.session import TrackedFrame, TrackerSession
from sam3.model.tracker.tracker import TrackedMasks
from sam3.model.video.partners import Partners

Rows = list[int]  # of a session's objects


def step_all(
    sessions: Sequence[TrackerSession], frame: int, *, is_reverse: bool, partners: Partners
) -> list[TrackedFrame]:
    """Every session one frame further, without encoding the frame's memory."""
    if partners.size == 1:
        return [session.step(frame, is_reverse=is_reverse, remember=False) for session in sessions]
    open_sessions = [session for session in sessions if frame not in session.conditioning]
    dealt = _dealt(open_sessions, partners)

    def work() -> list[tuple[Rows, dict[str, Tensor] | None]]:
        return [
            (rows, _portable(session.look(frame, is_reverse, rows)) if rows else None)
            for session, rows in zip(open_sessions, dealt, strict=True)
        ]

    found = partners.share(work) if open_sessions else []
    seen = {
        id(session): _joined([theirs[index] for theirs in found], session.device)
        for index, session in enumerate(open_sessions)
    }
    return [
        session.step(frame, is_reverse=is_reverse, remember=False, seen=seen.get(id(session))) for session in sessions
    ]


def remember_all(
    sessions: Sequence[TrackerSession], frame: int, masks: Tensor, scores: Tensor, partners: Partners
) -> None:
    """Encode what is to be remembered of a frame.

    Args:
        masks: (N, 1, S, S) logits of the objects of all sessions.
        scores: (N, 1) their object scores.
    """
    counts = [len(session.obj_ids) for session in sessions]
    given = list(zip(sessions, masks.split(counts), scores.split(counts), strict=True))
    if partners.size == 1:
        for session, own, present in given:
            session.remember(frame, session.entry(frame), is_prompted=False, masks=own, scores=present)
        return
    dealt = _dealt(sessions, partners)

    def work() -> list[tuple[Rows, Tensor | None]]:
        return [
            (rows, session.encoded(frame, own[rows], present[rows]).cpu() if rows else None)
            for (session, own, present), rows in zip(given, dealt, strict=True)
        ]

    found = partners.share(work)
    for index, session in enumerate(sessions):
        parts = [theirs[index] for theirs in found if theirs[index][0]]
        session.entry(frame).memory = _in_order(parts, session.device)


def _dealt(sessions: Sequence[TrackerSession], partners: Partners) -> list[Rows]:
    """The objects of each session that this process works on."""
    dealt, first = [], 0
    for session in sessions:
        count = len(session.obj_ids)
        dealt.append([row for row in range(count) if (first + row) % partners.size == partners.rank])
        first += count
    return dealt


_KEPT = ("ious", "low_res", "pointers", "object_score_logits")  # of the tracker's answer; nobody reads the candidates


def _portable(out: TrackedMasks) -> dict[str, Tensor]:
    return {name: getattr(out, name).cpu() for name in _KEPT}


def _joined(parts: Sequence[tuple[Rows, dict[str, Tensor] | None]], device: torch.device) -> TrackedMasks:
    kept = {name: _in_order([(rows, part[name]) for rows, part in parts if rows], device) for name in _KEPT}
    return TrackedMasks(candidates=kept["low_res"], **kept)


def _in_order(parts: Sequence[tuple[Rows, Any]], device: torch.device) -> Tensor:
    """Rows of several processes, in the order of the objects."""
    order = torch.tensor([row for rows, _ in parts for row in rows]).argsort()
    return torch.cat([part for _, part in parts])[order].to(device)
