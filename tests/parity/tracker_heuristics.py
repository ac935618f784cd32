"""Compares the pure functions of tracking with recorded cases: ``heuristics/*.json`` of a golden folder."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam3.config import TrackerConfig
from sam3.model.tracker.mask_decoder import DecodedMasks, MaskDecoder
from sam3.model.tracker.memory_bank import (
    FrameMemory,
    Moment,
    closest_conditioning_frames,
    frame_order,
    frame_score,
    recall,
    well_seen_frames,
)
from sam3.model.tracker.tracker import Tracker
from sam3.model.video import schedule
from sam3.model.video.association import associate, away_from_border, least_loaded, within_limit
from sam3.model.video.frame_output import assemble
from sam3.model.video.lifecycle import Confirmation, HotStart
from sam3.model.video.occlusion import overlapping_to_blank
from sam3.model.video.settings import VideoSettings
from sam3.ops import components, masks
from sam3.ops.boxes import paired_box_iou
from sam3.ops.nms import greedy_nms
from tests.parity.report import Row, rows_or_miss
from tests.parity.tracker_inputs import coordinates, multigpu_chunks

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
    """Files that no check reads, and cases of a setting that we do not have."""
    files = sorted((folder / "heuristics").glob("*.json"))
    others = [path.stem for path in files if path.stem not in CHECKS]
    for path in files:
        count = sum(bool(case.get("keep_first")) for case in json.loads(path.read_text())["cases"])
        others += [f"{path.stem}: {count} cases with keep_first, which no build sets"] if count else []
    return others


def _rows(path: Path, check: Callable[[Case], float]) -> Iterator[Row]:
    cases = json.loads(path.read_text())["cases"]
    errors = [check(case) for case in cases if not case.get("keep_first")]
    yield Row(f"{path.stem} ({len(errors)} cases)", max(errors, default=0.0), NUMBER_LIMIT)


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
    chosen = closest_conditioning_frames(case["frame_idx"], case["cond_frames_in_order"], case["max_cond"])
    rest = [frame for frame in case["cond_frames_in_order"] if frame not in chosen]
    return _unequal((chosen, case["selected_in_order"]), (rest, case["unselected_in_order"]))


def use_multimask(case: Case) -> float:
    with torch.device("meta"):
        tracker = Tracker(TrackerConfig(d_model=32, decoder_heads=4, memory_dim=8))
    found = tracker.multimask_for(case["num_points"] or 0, is_first=case["is_init_cond_frame"])
    return _unequal((found, case["multimask"]))


def _masks(rows: list[list[str]], size: tuple[int, int] | None = None) -> Tensor:
    """Masks written as rows of 0 and 1; none of them are (0, H, W) of ``size``."""
    if not rows:
        return torch.zeros(0, *(size or (1, 1)), dtype=torch.bool)
    return torch.tensor([[[letter == "1" for letter in row] for row in mask] for mask in rows])


def _error(found: Tensor, expected: Any) -> float:
    """Largest absolute difference; another number of values counts as infinite."""
    wanted = torch.tensor(expected, dtype=torch.float64)
    if found.numel() != wanted.numel():
        return float("inf")
    return float((found.double().flatten() - wanted.flatten()).abs().max()) if found.numel() else 0.0


def mask_iou(case: Case) -> float:
    sizes = [mask.shape[1:] for mask in (_masks(case["a"]), _masks(case["b"])) if len(mask)]
    size = tuple(sizes[0]) if sizes else (1, 1)
    return _error(masks.mask_iou(_masks(case["a"], size), _masks(case["b"], size)), case["iou"])


def mask_nms(case: Case) -> float:
    scores, found = torch.tensor(case["scores"]), _masks(case["masks"])
    valid = scores > torch.tensor(case["prob_threshold"])
    kept = torch.zeros(len(scores), dtype=torch.bool)
    if valid.any():
        ious = masks.mask_iou(found[valid], found[valid])
        kept[valid] = greedy_nms(ious, scores[valid], case["iou_threshold"])
    return _unequal((kept.tolist(), case["keep"]))


def _settings(params: dict[str, Any]) -> VideoSettings:
    names = {
        "assoc_iou_thresh": "association_iou",
        "trk_assoc_iou_thresh": "track_match_iou",
        "new_det_thresh": "new_object_score",
        "o2o_matching_masklets_enable": "one_to_one_matching",
        "hotstart_delay": "hotstart_delay",
        "hotstart_unmatch_thresh": "hotstart_unmatched",
        "hotstart_dup_thresh": "hotstart_duplicate",
        "init_trk_keep_alive": "keep_alive_initial",
        "max_trk_keep_alive": "keep_alive_max",
        "min_trk_keep_alive": "keep_alive_min",
        "suppress_unmatched_only_within_hotstart": "hide_unmatched_only_when_young",
        "decrease_trk_keep_alive_for_empty_masklets": "keep_alive_counts_empty",
    }
    return replace(VideoSettings(), **{names[key]: value for key, value in params.items()})


def associate_det_trk(case: Case) -> float:
    detections, tracks = (_logits(case[key], case) for key in ("det_masks", "trk_masks"))
    found = associate(
        detections, torch.tensor(case["det_scores"]), tracks, case["trk_obj_ids"], _settings(case["params"])
    )
    return _unequal(
        (sorted(found.new_detections), sorted(case["new_det_inds"])),
        (sorted(found.unmatched), sorted(case["unmatched_trk_obj_ids"])),
        (
            {key: sorted(value) for key, value in found.matches.items()},
            {int(key): sorted(value) for key, value in case["det_to_matched_trk_obj_ids"].items()},
        ),
        (found.confident, {int(key): value for key, value in case["trk_id_to_max_iou_high_conf_det"].items()}),
        (sorted(found.empty), sorted(case["empty_trk_obj_ids"])),
    )


def _logits(values: list, case: Case) -> Tensor:
    if values:
        return torch.tensor(values)
    other = case["det_masks"] or case["trk_masks"]
    return torch.zeros(0, *(torch.tensor(other).shape[1:] if other else (4, 4)))


def hotstart(case: Case) -> float:
    state, settings, errors = HotStart(), _settings(case["params"]), 0.0
    for frame in case["frames"]:
        given, expected = frame["input"], frame["state"]
        removed, hidden = state.update(
            given["frame_idx"],
            new=given["new_det_obj_ids"],
            matches={int(key): value for key, value in given["det_to_matched_trk_obj_ids"].items()},
            unmatched=given["unmatched_trk_obj_ids"],
            empty=given["empty_trk_obj_ids"],
            settings=settings,
            is_reverse=case["reverse"],
        )
        errors += _unequal(
            (sorted(removed), sorted(frame["newly_removed"])),
            (sorted(hidden), sorted(frame["suppressed"])),
            (state.first_frame, _by_id(expected["obj_first_frame_idx"])),
            (state.unmatched_frames, _by_id(expected["unmatched_frame_inds"])),
            (state.keep_alive, _by_id(expected["trk_keep_alive"])),
            (sorted([*pair, frames] for pair, frames in state.shared.items()), sorted(expected["overlap_pairs"])),
            (sorted(state.removed), sorted(expected["removed_obj_ids"])),
        )
    return errors


def _by_id(values: dict[str, Any]) -> dict[int, Any]:
    return {int(key): value for key, value in values.items()}


def recent_occlusion(case: Case) -> float:
    found = overlapping_to_blank(
        _masks(case["masks"]),
        case["last_occluded"],
        case["iou_threshold"],
        is_reverse=case["reverse"],
        symmetric=False,
    )
    return _unequal((found.tolist(), case["to_suppress"]))


def non_overlap(case: Case) -> float:
    logits = torch.tensor(case["masks"])
    binary = masks.without_overlap(logits[:, 0] > 0, torch.tensor(case["obj_scores"]).flatten())
    return max(
        _error(masks.strongest_per_pixel(logits), case["pixelwise"]),
        _error(masks.blank_if_mostly_lost(logits, min_share=case["shrink_threshold"]), case["shrinkage_suppressed"]),
        _unequal((binary.tolist(), _masks(case["objectwise_binary_out"]).tolist())),
    )


def fill_holes(case: Case) -> float:
    logits, area = torch.tensor(case["logits"]), case["max_area"]
    return max(
        _error(components.component_areas(logits > 0), case["foreground_component_area"]),
        _error(components.fill_small_holes(logits, area), case["holes_only"]),
        _error(components.remove_small_specks(logits, area), case["sprinkles_only"]),
        _error(components.clean_masks(logits, area), case["filled_both"]),
    )


def object_allocation(case: Case) -> float:
    if "prev_workload" in case:
        return _unequal((least_loaded(case["new_det_num"], case["prev_workload"]), case["gpu_ids"]))
    scores = torch.tensor(case["det_scores"])
    return _unequal((within_limit(case["new_det_inds"], scores, case["num_to_keep"]), case["kept"]))


def postprocess_output(case: Case) -> float:
    size = case["H"], case["W"]
    hidden = {obj_id for key in ("removed", "suppressed", "unconfirmed") for obj_id in case.get(key) or ()}
    found = assemble(
        {int(obj_id): _masks([rows])[0] for obj_id, rows in case["masks"].items()},
        _by_id(case["obj_id_to_score"]),
        _by_id(case["obj_id_to_tracker_score"]),
        size=size,
        hidden=hidden,
        inclusive_boxes=True,
        drop_emptied=False,
    )
    return max(
        _unequal(
            (found.obj_ids, case["out_obj_ids"]),
            (found.masks.tolist(), _masks(case["out_binary_masks"], size).tolist()),
        ),
        _error(found.scores, case["out_probs"]),
        _error(found.boxes_xywh, case["out_boxes_xywh"]),
    )


def boxes(case: Case) -> float:
    if "masks" in case:
        found = _masks(case["masks"])
        inclusive = masks.masks_to_boxes(found) - torch.tensor([0, 0, 1, 1])
        there = found.flatten(1).any(1)
        return max(
            _error(torch.where(there[:, None], inclusive, 0.0), case["mask_to_box_int_inclusive"]),
            _error(inclusive[there], case["masks_to_boxes_nonempty_float"]),
        )
    if "diag_iou" in case:
        ious, _ = paired_box_iou(torch.tensor(case["boxes1_xyxy"]), torch.tensor(case["boxes2_xyxy"]))
        return _error(ious, case["diag_iou"])
    key = next(key for key in case if key.startswith("keep_not_close"))
    found = away_from_border(torch.tensor(case["boxes_xyxy_norm"]), 0.025)
    return _unequal((found.tolist(), case[key]))


def hotstart_output_schedule(case: Case) -> float:
    order = schedule.video_order(
        case["start"], case["num_frames"], limit=case["max_frame_num_to_track"], is_reverse=case["reverse"]
    )
    buffer: schedule.DelayBuffer[int] = schedule.DelayBuffer(case["hotstart_delay"])
    found = [[frame, buffer.push(frame, is_last=frame == order[-1])] for frame in order]
    return _unequal((found, case["processed_then_yielded"]))


def masklet_confirmation(case: Case) -> float:
    state, errors = Confirmation(), 0.0
    for frame in case["frames"]:
        ids = frame["updated_ids"]
        matched = {obj_id for objects in frame["det_to_matched"].values() for obj_id in objects}
        state.update(ids, new=frame["new_ids"], matched=matched, needed=case["threshold"])
        values = case["unconfirmed_value"], case["confirmed_value"]
        errors += _unequal(
            ([values[obj_id in state.confirmed] for obj_id in ids], frame["status"]),
            ([state.in_a_row[obj_id] for obj_id in ids], frame["consecutive_det_num"]),
        )
    return errors


def processing_order(case: Case) -> float:
    order = {"tracker": frame_order, "video": schedule.video_order}[case["kind"]]
    start = case["start_frame_idx"]
    start = min(case["frames_with_prompt_or_cond"]) if start is None else start
    found = order(start, case["num_frames"], limit=case["max_frame_num_to_track"], is_reverse=case["reverse"])
    return _unequal((found, case["order"]))


def action_history(case: Case) -> float:
    history = [
        schedule.Action(
            schedule.ActionKind(entry["type"]),
            entry["frame_idx"],
            None if entry["obj_ids"] is None else tuple(entry["obj_ids"]),
        )
        for entry in case["history"]
    ]
    found = schedule.next_propagation(history, case["num_frames"])
    ids = None if case["obj_ids"] is None else sorted(case["obj_ids"])
    return _unequal(
        (found.kind.value, case["propagation_type"]), (None if found.obj_ids is None else sorted(found.obj_ids), ids)
    )


def dynamic_multimask(case: Case) -> float:
    config = TrackerConfig(
        d_model=32,
        decoder_heads=4,
        memory_dim=8,
        stability_delta=case["delta"],
        stability_threshold=case["thresh"],
    )
    with torch.device("meta"):
        decoder = MaskDecoder(config)
    logits, ious = torch.tensor(case["mask_logits"]), torch.tensor(case["iou_scores"])
    nothing = torch.zeros(len(logits), logits.shape[1], 1)
    found = decoder.stable_or_best(DecodedMasks(logits, ious, nothing, nothing[:, 0]))
    return max(
        _error(decoder.stability(logits[:, 0]), case["stability"]),
        _error(found.masks, case["out_mask"]),
        _error(found.ious, case["out_iou"]),
    )


CHECKS: dict[str, Callable[[Case], float]] = {
    check.__name__: check
    for check in (
        action_history,
        associate_det_trk,
        boxes,
        coordinates,
        dynamic_multimask,
        fill_holes,
        hotstart,
        hotstart_output_schedule,
        mask_iou,
        mask_nms,
        masklet_confirmation,
        memory_score,
        memory_selection,
        multigpu_chunks,
        non_overlap,
        object_allocation,
        postprocess_output,
        processing_order,
        recent_occlusion,
        select_closest_cond,
        use_multimask,
    )
}
