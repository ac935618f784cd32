"""Compares the pure functions of tracking with recorded cases: ``heuristics/*.json`` of a golden folder."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sam3.config import TrackerConfig
from sam3.model.tracker.memory_bank import (
    FrameMemory,
    Moment,
    closest_conditioning_frames,
    frame_score,
    recall,
    well_seen_frames,
)
from tests.parity.report import Row, rows_or_miss

Case = dict[str, Any]
NUMBER_LIMIT = 1e-5


def compare(folder: Path) -> list[Row]:
    """One row for each file: how many of its cases come out otherwise, or the largest error of its numbers."""
    rows = []
    for path in sorted((folder / "heuristics").glob("*.json")):
        check = CHECKS.get(path.stem)
        if check is not None:
            rows += rows_or_miss(path.stem, lambda path=path, check=check: _rows(path, check))
    return rows


def uncovered(folder: Path) -> list[str]:
    """Files that no check reads yet."""
    return [path.stem for path in sorted((folder / "heuristics").glob("*.json")) if path.stem not in CHECKS]


def _rows(path: Path, check: Callable[[Case], float]) -> Iterator[Row]:
    cases = json.loads(path.read_text())["cases"]
    errors = [check(case) for case in cases]
    yield Row(f"{path.stem} ({len(cases)} cases)", max(errors), NUMBER_LIMIT)


def _unequal(*pairs: tuple[Any, Any]) -> float:
    return float(sum(found != expected for found, expected in pairs))


def memory_selection(case: Case) -> float:
    """Which frames feed the memory attention, in order."""
    expected = case["expected"]
    config = replace(
        TrackerConfig(), use_memory_selection=case["use_memory_selection"], memory_stride=case["temporal_stride"]
    )
    moment = Moment(case["frame_idx"], case["num_frames"], case["reverse"])
    frames: dict[int, FrameMemory] = {}

    def memory(frame: int, score: float | None) -> FrameMemory:
        nothing = torch.zeros(1)
        frames[frame] = FrameMemory(nothing, nothing, nothing, nothing, frame_score=score)
        return frames[frame]

    conditioning = {frame: memory(frame, None) for frame in case["cond_frames"]}
    scores = {int(frame): score for frame, score in case["non_cond_eff_iou"].items()}
    tracked = {frame: memory(frame, score) for frame, score in scores.items()}
    found = recall(moment, conditioning, tracked, config)
    number = {id(entry): frame for frame, entry in frames.items()}
    valid = well_seen_frames(moment, scores, config) if config.use_memory_selection else None
    return _unequal(
        ([number[id(entry.frame)] for entry in found.maps], expected["spatial_memory_frames"]),
        ([entry.row for entry in found.maps], expected["tpos_enc_row"]),
        ([number[id(entry.frame)] for entry in found.pointers], expected["pointer_frames"]),
        ([entry.distance for entry in found.pointers], expected["pointer_rel_pos"]),
        (found.max_pointers - 1, expected["pointer_pos_divisor"]),
        (valid, expected["valid_indices"]),
    )


def memory_score(case: Case) -> float:
    logits, ious = torch.tensor(case["object_score_logits"]), torch.tensor(case["iou_score_shape_B"])
    return abs(frame_score(logits, ious) - case["score"])


def select_closest_cond(case: Case) -> float:
    if case["keep_first"]:  # the released settings never keep the first frame on purpose
        return 0.0
    chosen = closest_conditioning_frames(case["frame_idx"], case["cond_frames_in_order"], case["max_cond"])
    rest = [frame for frame in case["cond_frames_in_order"] if frame not in chosen]
    return _unequal((chosen, case["selected_in_order"]), (rest, case["unselected_in_order"]))


def use_multimask(case: Case) -> float:
    from sam3.model.tracker.tracker import Tracker

    with torch.device("meta"):
        tracker = Tracker(TrackerConfig(d_model=32, decoder_heads=4, memory_dim=8))
    found = tracker.multimask_for(case["num_points"] or 0, is_first=case["is_init_cond_frame"])
    return _unequal((found, case["multimask"]))


CHECKS: dict[str, Callable[[Case], float]] = {
    "memory_score": memory_score,
    "memory_selection": memory_selection,
    "select_closest_cond": select_closest_cond,
    "use_multimask": use_multimask,
}
