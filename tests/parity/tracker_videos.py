"""Compares whole videos with recorded ones: ``video_*.json`` and ``.safetensors``, with a scripted detector."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam3.model.tracker.tracker import TrackerFeatures
from sam3.model.video.frame_output import FrameObjects
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import Detections, VideoModel
from sam3.model.video.video_session import VideoSession
from sam3.model.video.video_state import VideoState
from tests.parity.report import Row, rows_or_miss
from tests.parity.tracker_network import Fixture, build_tracker
from tests.parity.tracker_sessions import stub_backbone

PIXELS, NUMBERS = 5e-3, 2e-3  # share of a frame's pixels; scores and boxes
BORDER = 0.025  # share of the side
CONFIRMATION = 3  # detections in a row
_OVERRIDES = {
    "score_threshold_detection": "score_threshold",
    "det_nms_thresh": "nms_iou",
    "new_det_thresh": "new_object_score",
    "assoc_iou_thresh": "association_iou",
    "trk_assoc_iou_thresh": "track_match_iou",
    "hotstart_delay": "hotstart_delay",
    "hotstart_unmatch_thresh": "hotstart_unmatched",
    "hotstart_dup_thresh": "hotstart_duplicate",
    "suppress_unmatched_only_within_hotstart": "hide_unmatched_only_when_young",
    "init_trk_keep_alive": "keep_alive_initial",
    "max_trk_keep_alive": "keep_alive_max",
    "min_trk_keep_alive": "keep_alive_min",
    "decrease_trk_keep_alive_for_empty_masklets": "keep_alive_counts_empty",
    "suppress_overlapping_based_on_recent_occlusion_threshold": "occlusion_iou",
    "fill_hole_area": "clean_area",
    "recondition_every_nth_frame": "recondition_every",
}


@torch.no_grad()
def compare(folder: Path) -> list[Row]:
    """Rows for each step of each recorded video."""
    rows = []
    for path in sorted(folder.glob("video_*.json")):
        rows += rows_or_miss(path.stem, lambda path=path: list(_rows(folder, path)))
    return rows


class Run:
    """One recorded video, worked off by our model."""

    def __init__(self, folder: Path, path: Path) -> None:
        self.record = json.loads(path.read_text())
        self.given = Fixture(path.with_suffix(".safetensors"))
        info = self.record["info"]
        tracker = build_tracker(folder)
        tracker.config = replace(tracker.config, use_memory_selection=info["memory_selection"])
        self.model = VideoModel(tracker, replace(VideoSettings(as_reference=True), **_overrides(info)))
        state = VideoState((info["orig_height"], info["orig_width"]), info["num_frames"])
        self.session = VideoSession(self.model, self.detect, self.features, state)
        self._pyramid = stub_backbone(folder)
        self._size = tracker.config.low_res_size

    def detect(self, frame: int) -> Detections:
        logits = self.given.get(f"det{frame}.logits")
        if logits is None or not len(logits):
            return Detections(torch.zeros(0), torch.zeros(0, 4), torch.zeros(0, self._size, self._size))
        return Detections(logits.sigmoid(), self.given[f"det{frame}.boxes_xyxy"], self.given[f"det{frame}.mask_logits"])

    def features(self, frame: int) -> TrackerFeatures:
        return self.model.tracker.features(self._pyramid(self.given["pixels"][frame : frame + 1]))

    def do(self, request: dict[str, Any]) -> Iterator[tuple[int, FrameObjects]]:
        if request["type"] == "remove_object":
            self.session.remove(request["obj_id"])
        elif request["type"] == "add_prompt":
            frame = request["frame_index"]
            if "points" in request:
                points, labels = torch.tensor(request["points"]), torch.tensor(request["point_labels"])
                yield frame, self.session.prompt_points(frame, request["obj_id"], points, labels)
            else:
                yield frame, self.session.prompt_concept(frame)
        else:
            directions = {"both": (False, True), "forward": (False,), "backward": (True,)}
            for is_reverse in directions[request.get("propagation_direction", "both")]:
                yield from self.session.propagate(
                    request.get("start_frame_index"),
                    limit=request.get("max_frame_num_to_track"),
                    is_reverse=is_reverse,
                )


def _overrides(info: dict[str, Any]) -> dict[str, Any]:
    given = dict(info["model_overrides"])
    border = BORDER if given.pop("suppress_det_close_to_boundary", False) else None
    needed = given.pop("masklet_confirmation_consecutive_det_thresh", CONFIRMATION)
    confirmation = needed if given.pop("masklet_confirmation_enable", False) else 0
    if not given.keys() <= _OVERRIDES.keys():
        raise ValueError(f"a setting that the video model does not have: {info['model_overrides']}")
    own = {_OVERRIDES[key]: value for key, value in given.items()}
    return own | {"border": border, "confirmation": confirmation}


def _rows(folder: Path, path: Path) -> Iterator[Row]:
    run = Run(folder, path)
    for number, step in enumerate(run.record["steps"]):
        found = list(run.do(step["request"]))
        name = f"{path.stem} step {number}"
        expected = step["outputs"]
        frames = [out["frame_index"] for out in expected], [frame for frame, _ in found]
        ids = [sorted(out["obj_ids"]) for out in expected], [shown.obj_ids for _, shown in found]
        yield Row(f"{name}: frames", float(frames[0] != frames[1]), 0)
        yield Row(f"{name}: frames with other objects", float(_count_unequal(*ids)), 0)
        errors = [_errors(run.given, out, shown) for out, (_, shown) in zip(expected, found, strict=False)]
        worst = np.array(errors or [(0.0, 0.0, 0.0)]).max(axis=0)
        for kind, error, limit in zip(("scores", "boxes", "mask pixels"), worst, (NUMBERS, 0.05, PIXELS), strict=True):
            yield Row(f"{name}: {kind}", float(error), limit)


def _count_unequal(expected: list, found: list) -> int:
    return abs(len(expected) - len(found)) + sum(a != b for a, b in zip(expected, found, strict=False))


def _errors(given: Fixture, out: dict[str, Any], shown: FrameObjects) -> tuple[float, float, float]:
    def recorded(kind: str) -> Tensor:
        return given.tensors[f"{out['key']}.{kind}"]

    if out["obj_ids"] != shown.obj_ids:
        return (np.inf, np.inf, np.inf)
    if not shown.obj_ids:
        return (0.0, 0.0, 0.0)
    masks = np.unpackbits(recorded("masks_packed").numpy())[: shown.masks.numel()].reshape(shown.masks.shape)
    differing = (torch.from_numpy(masks).bool() != shown.masks).flatten(1).float().mean(1).max()
    scores = (recorded("probs") - shown.scores).abs().max()
    return float(scores), float((recorded("boxes_xywh") - shown.boxes_xywh).abs().max()), float(differing)
