"""Compares whole tracker sessions with recorded ones: ``tracker_e2e_*.safetensors``."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from sam3.model.tracker.session import TrackerSession
from sam3.model.tracker.tracker import Tracker, TrackerFeatures
from tests.parity.report import Row, rows_or_miss
from tests.parity.tracker_network import Fixture, build_tracker

LOGITS, NUMBERS, PIXELS = 5e-2, 2e-3, 5e-3  # mask and score logits; pointers, qualities; share of pixels
BF16_STEP = 2.0**-7


@torch.no_grad()
def compare(folder: Path) -> list[Row]:
    """Rows of every session the folder holds."""
    rows = []
    for path in sorted(folder.glob("tracker_e2e_*.safetensors")):
        rows += rows_or_miss(path.stem, lambda path=path: _rows(folder, path))
    return rows


def _rows(folder: Path, path: Path) -> list[Row]:
    given, tracker = Fixture(path), build_tracker(folder)
    found = run_script(tracker, stub_backbone(folder), given)
    return [_row(given, key, found.get(key)) for key in given.expected()]


def _row(given: Fixture, key: str, found: Tensor | None) -> Row:
    expected, name = given.tensors[f"out.{key}"], f"{given.name} {key}"
    if found is None or found.shape != expected.shape:
        return Row(f"{name}: {'missing' if found is None else tuple(found.shape)}", float("nan"), 0.0)
    found, expected = found.double(), expected.double()
    kind = key.rsplit(".", 1)[1]
    if kind == "maskmem_features":
        allowed = BF16_STEP * torch.maximum(found.abs(), expected.abs()) + NUMBERS
        return Row(name, float(((found - expected).abs() / allowed).max()), 1.0)
    limit = LOGITS if kind in ("low_res_logits", "object_score_logits", "video_res_masks") else NUMBERS
    return Row(name, float((found - expected).abs().max()), limit)


def stub_backbone(folder: Path):
    """Pixels (1, 3, S, S) -> the tracker's pyramid of three levels, as ``config.json`` describes it."""
    weights = load_file(folder / "weights.safetensors")

    def pyramid(pixels: Tensor) -> list[Tensor]:
        return [
            F.conv2d(
                F.avg_pool2d(pixels, 2**level) if level else pixels,
                weights[f"stub_backbone.convs.{level}.weight"],
                weights[f"stub_backbone.convs.{level}.bias"],
            )
            for level in range(3)
        ]

    return pyramid


def run_script(tracker: Tracker, backbone, given: Fixture) -> dict[str, Tensor]:
    """Do the steps of a recorded session; what each of them said, under the recorded names."""
    script = given.meta("script")
    tracker.config = replace(tracker.config, use_memory_selection=script["memory_selection"])
    pixels = given["pixels"]

    def features(frame: int) -> TrackerFeatures:
        return tracker.features(backbone(pixels[frame : frame + 1]))

    session = TrackerSession(
        tracker,
        features,
        (script["video_height"], script["video_width"]),
        script["num_frames"],
        absent_without_answer=False,
    )
    found: dict[str, Tensor] = {}
    for number, step in enumerate(script["steps"]):
        for key, value in _do(session, step, given.get(f"step{number}.mask")):
            found[f"step{number}.{key}"] = value
        if (expected := step.get("out_obj_ids") or step.get("obj_ids")) != session.obj_ids:
            raise ValueError(f"step {number}: objects {session.obj_ids}, expected {expected}")
    return found


def _do(session: TrackerSession, step: dict[str, Any], mask: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    arguments = step["args"]
    frame, obj_id = arguments.get("frame_idx"), arguments.get("obj_id")
    if step["op"] == "points_or_box":
        points, labels, box = (
            None if arguments.get(key) is None else torch.tensor(arguments[key]) for key in ("points", "labels", "box")
        )
        keep_points = not arguments.get("clear_old_points", True)
        answer = session.add_points(frame, obj_id, points, labels, box=box, keep_points=keep_points)
        yield "low_res_logits", answer.masks
        yield "obj_ptr", answer.pointers
        yield "object_score_logits", answer.object_score_logits
        yield "video_res_masks", session.video_masks(frame)
    elif step["op"] == "mask":
        session.add_mask(frame, obj_id, mask)
        yield "video_res_masks", session.video_masks(frame)
    elif step["op"] == "remove":
        session.remove(obj_id)
    else:
        yield from _propagate(session, step)


def _propagate(session: TrackerSession, step: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    arguments = step["args"]
    if arguments.get("propagate_preflight"):
        session.consolidate()
    frames = []
    for out in session.propagate(
        arguments.get("start_frame_idx"),
        limit=arguments.get("max_frame_num_to_track"),
        is_reverse=arguments.get("reverse", False),
    ):
        frames.append(out.frame)
        entry = session.conditioning.get(out.frame) or session.tracked[out.frame]
        name = f"frame{out.frame}"
        yield f"{name}.low_res_logits", out.low_res_masks
        yield f"{name}.object_score_logits", out.object_score_logits
        yield f"{name}.obj_ptr", entry.pointers
        yield f"{name}.iou_score", entry.ious
        yield f"{name}.maskmem_features", entry.memory.float()
        yield f"{name}.video_res_masks", session.to_video_size(out.low_res_masks)
        if entry.frame_score is not None:
            yield f"{name}.eff_iou_score", torch.tensor(entry.frame_score)
    if frames != step["frames"]:
        raise ValueError(f"frames {frames}, expected {step['frames']}")
