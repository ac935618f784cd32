"""Writes a folder in the format of the tracker's golden data, with what our own program says now.

For tests of the parity program: other sizes, numbers of objects, frames and cases than the recorded folder has.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sam3.model.initialization import initialize_tracker
from sam3.model.tracker.tracker import Tracker
from tests.parity import tracker_clicks, tracker_inputs, tracker_network, tracker_sessions, tracker_videos
from tests.parity.tracker_network import Fixture


@dataclass(frozen=True)
class Shape:
    """Sizes of a folder."""

    image_size: int = 84
    width: int = 32
    memory_dim: int = 8
    heads: int = 4
    layers: int = 1
    batch: int = 2  # masks, points and images of the single modules
    video: tuple[int, int] = (30, 50)
    num_frames: int = 5

    @property
    def grid(self) -> int:
        return self.image_size // 14


def write_folder(folder: Path, shape: Shape) -> None:
    """Config, weights and every fixture file except the heuristics."""
    torch.manual_seed(shape.image_size)
    (folder / "config.json").write_text(json.dumps(_config(shape)))
    tracker = Tracker(tracker_network.read_config(folder))
    initialize_tracker(tracker)
    with torch.no_grad():
        for parameter in tracker.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(0.3)
    weights = {f"tracker.{name}": value for name, value in tracker.state_dict().items()}
    for level in range(3):
        weights[f"stub_backbone.convs.{level}.weight"] = torch.randn(shape.width, 3, 1, 1)
        weights[f"stub_backbone.convs.{level}.bias"] = torch.randn(shape.width)
    save_file(weights, folder / "weights.safetensors")
    for name, make in _MODULES.items():
        inputs, metadata, outputs = make(shape)
        path = folder / f"{name}.safetensors"
        _save(path, inputs, dict.fromkeys(outputs, torch.zeros(1)), metadata)
        found = tracker_network.CHECKS[name](tracker_network.build_tracker(folder), Fixture(path))
        _save(path, inputs, {key: found[key] for key in outputs or found}, metadata)
    _write_clicks(folder, shape)
    _write_loaders(folder, shape)
    _write_sessions(folder, shape)
    _write_video(folder, shape)


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "image_size": shape.image_size,
        "backbone_stride": 14,
        "hidden_dim": shape.width,
        "mem_dim": shape.memory_dim,
        "memory_attention": {"layers": shape.layers, "dim_feedforward": 24, "heads": 1, "rope_theta": 500.0},
        "mask_decoder": {
            "transformer_depth": 2,
            "heads": shape.heads,
            "mlp_dim": 40,
            "attention_downsample_rate": 2,
            "iou_head_hidden_dim": 20,
            "iou_head_depth": 2,
            "num_multimask_outputs": 3,
        },
        "prompt_encoder": {"mask_in_chans": 8},
        "memory_encoder": {"fuser_layers": 1, "fuser_kernel": 3},
        "tracker": {
            "num_maskmem": 5,
            "max_obj_ptrs_in_encoder": 8,
            "max_cond_frames_in_attn": 2,
            "multimask_max_pt_num": 1,
            "multimask_output_for_tracking": True,
            "use_memory_selection": True,
            "mf_threshold": 0.01,
            "sigmoid_scale_for_mem_enc": 20.0,
            "sigmoid_bias_for_mem_enc": -10.0,
            "max_point_num_in_prompt_enc": 16,
        },
    }


def _save(path: Path, inputs: dict[str, Tensor], outputs: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    tensors = {f"in.{key}": value for key, value in inputs.items()}
    tensors |= {f"out.{key}": value for key, value in outputs.items()}
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    save_file({key: value.detach().clone().contiguous() for key, value in tensors.items()}, path, texts)


Made = tuple[dict[str, Tensor], dict[str, Any], list[str]]  # inputs, metadata, names of outputs (empty: all)


def _pyramid(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Top level and the two skips of the decoder."""
    rows, grid, width = shape.batch, shape.grid, shape.width
    top = torch.randn(rows, width, grid, grid)
    return top, torch.randn(rows, width // 8, 4 * grid, 4 * grid), torch.randn(rows, width // 4, 2 * grid, 2 * grid)


def _points(shape: Shape, rows: int, count: int) -> tuple[Tensor, Tensor]:
    return torch.rand(rows, count, 2) * shape.image_size, torch.randint(-1, 4, (rows, count))


def _position_encodings(shape: Shape) -> Made:
    grid, width = shape.grid, shape.width
    names = ["dense_pe", "ptr_tpos_proj", "rope_q", "rope_k", f"sine_1d_dim{width}", f"sine_2d_feats{width}_3x5"]
    names += [f"rope_{kind}_{grid}x{grid}_dim{width}" for kind in ("cos", "sin")]
    inputs = {
        "rel_pos_over_15": torch.rand(3),
        "rope_q": torch.randn(shape.batch, 1, grid**2, width)[:1],
        "rope_k_two_frames": torch.randn(1, 1, 2 * grid**2, width),
    }
    return inputs, {}, names


def _prompt_encoder(shape: Shape) -> Made:
    points, labels = _points(shape, shape.batch + 1, 5)
    side = 4 * shape.grid
    boxes = torch.rand(shape.batch, 4) * shape.image_size
    masks = torch.randn(shape.batch + 2, 1, side, side)
    return {"points": points, "labels": labels, "boxes_xyxy": boxes, "masks": masks}, {}, []


def _mask_decoder(shape: Shape) -> Made:
    top, s0, s1 = _pyramid(shape)
    inputs = {"image_embeddings": top, "high_res_s0": s0, "high_res_s1": s1, "dense": torch.randn_like(top)}
    return inputs | {"sparse": torch.randn(shape.batch, 4, shape.width)}, {}, []


def _memory_encoder(shape: Shape) -> Made:
    small, large, rows = shape.image_size, 16 * shape.grid, shape.batch
    inputs = {f"mask_{side}": 20 * torch.rand(rows, 1, side, side) - 10 for side in (small, large)}
    inputs |= {f"logits_{small}": torch.randn(rows, 1, small, small), "pix_feat": _pyramid(shape)[0]}
    inputs["object_score_logits"] = torch.linspace(-1, 0, rows)[:, None]
    names = [f"encode_new_memory_from_points_{kind}" for kind in (True, False)]
    return inputs, {}, names + [f"{kind}_{side}" for kind in ("feat", "pos") for side in (small, large)]


def _memory_attention(shape: Shape) -> Made:
    cells, rows = shape.grid**2, shape.batch
    cases = {"two maps": (2, 3), "pointers": (1, 8), "one map": (1, 0)}
    inputs = {"src": torch.randn(cells, rows, shape.width), "src_pos": torch.randn(cells, rows, shape.width)}
    for name, (maps, pointers) in cases.items():
        for kind in ("prompt", "prompt_pos"):
            inputs[f"{name}.{kind}"] = torch.randn(maps * cells + pointers, rows, shape.memory_dim)
    return inputs, {"num_obj_ptr_tokens": {name: pointers for name, (_, pointers) in cases.items()}}, []


def _memory_conditioned_features(shape: Shape) -> Made:
    cells, rows, conditioning = shape.grid**2, shape.batch, [0, 2, 9]
    scores = {frame: float(torch.rand(())) for frame in (1, 3, 4, 5, 6)}
    inputs = {"current_feat": torch.randn(cells, rows, shape.width), "current_pos": torch.randn(cells, rows, 1)}
    for frame in (*conditioning, *scores):
        inputs[f"frame{frame}.maskmem_features"] = torch.randn(rows, shape.memory_dim, shape.grid, shape.grid)
        inputs[f"frame{frame}.obj_ptr"] = torch.randn(rows, shape.width)
    metadata = {"frame_idx": 7, "num_frames": 11, "cond_frames": conditioning, "non_cond_eff_iou_score": scores}
    return inputs, metadata, []


def _sam_heads(shape: Shape) -> Made:
    top, s0, s1 = _pyramid(shape)
    rows, side = shape.batch, 16 * shape.grid
    masks = torch.zeros(rows, 1, side, side)
    masks[0, 0, 3, 4] = 1  # one pixel; the others are empty
    inputs = {"pix_feat": top, "s0": s0, "s1": s1, "mask_prompt": masks}
    cases = {"one_click": (1, True), "clicks": (3, False), "no_prompt": (0, True), "rough": (1, False)}
    for name, (count, _) in cases.items():
        if count:
            inputs[f"{name}.coords"], inputs[f"{name}.labels"] = _points(shape, rows, count)
    inputs["rough.mask"] = torch.randn(rows, 1, 2 * shape.grid, 2 * shape.grid)
    multimask = {name: flag for name, (_, flag) in cases.items()}
    return inputs, {"multimask_output": multimask, "absent_bias_shift": -0.3}, []


_MODULES: dict[str, Callable[[Shape], Made]] = {
    "position_encodings": _position_encodings,
    "prompt_encoder": _prompt_encoder,
    "mask_decoder": _mask_decoder,
    "memory_encoder": _memory_encoder,
    "memory_attention": _memory_attention,
    "memory_conditioned_features": _memory_conditioned_features,
    "sam_heads": _sam_heads,
}


def _pixels(shape: Shape, count: int) -> Tensor:
    return torch.rand(count, 3, 4 * shape.grid, 4 * shape.grid) * 2 - 1


def _write_clicks(folder: Path, shape: Shape) -> None:
    height, width = shape.video
    path = folder / "image_predictor.safetensors"
    options = {"return_logits": True}
    cases = {
        "two boxes": {"multimask_output": True, **options},
        "three clicks": {"multimask_output": False, **options},
        "mask_input": {"points": [[3, 4]], "labels": [1], "multimask_output": False, "return_logits": False},
    }
    inputs = {
        "pixels": _pixels(shape, 1),
        "two boxes.box": torch.tensor([[1.0, 2.0, 20.0, 18.0], [0.0, 0.0, width, height]]),
        "three clicks.point_coords": torch.rand(3, 2) * height,
        "three clicks.point_labels": torch.tensor([1, 0, 1], dtype=torch.int32),
        "mask_input.mask_input": torch.randn(1, 4 * shape.grid, 4 * shape.grid),
    }
    metadata = {"orig_hw": shape.video, "cases": cases}
    _save(path, inputs, {}, metadata)
    _save(path, inputs, tracker_clicks.predictions(folder, Fixture(path)), metadata)


def _write_loaders(folder: Path, shape: Shape) -> None:
    path = folder / "loaders.safetensors"
    inputs = {"frames_rgb": torch.randint(0, 256, (3, *shape.video, 3), dtype=torch.uint8)}
    metadata = {"image_size": shape.grid}
    _save(path, inputs, {}, metadata)
    _save(path, inputs, tracker_inputs.loaded(Fixture(path)), metadata)


def _write_sessions(folder: Path, shape: Shape) -> None:
    """Prompts on several frames, three objects, a removal, a propagation that stops early."""
    last = shape.num_frames - 1
    steps: list[dict[str, Any]] = [
        {"op": "points_or_box", "args": {"frame_idx": 1, "obj_id": 5, "box": [0.1, 0.2, 0.6, 0.7]}, "out_obj_ids": [5]},
        {"op": "mask", "args": {"frame_idx": 1, "obj_id": 3}, "out_obj_ids": [5, 3]},
        {
            "op": "points_or_box",
            "args": {"frame_idx": last, "obj_id": 9, "points": [[0.4, 0.6], [0.9, 0.1]], "labels": [1, 0]},
            "out_obj_ids": [5, 3, 9],
        },
        {
            "op": "propagate",
            "args": {"start_frame_idx": 1, "max_frame_num_to_track": 2, "propagate_preflight": True},
            "frames": [1, 2, 3],
            "obj_ids": [5, 3, 9],
        },
        {"op": "remove", "args": {"obj_id": 3}, "obj_ids": [5, 9]},
        {
            "op": "propagate",
            "args": {"start_frame_idx": last, "reverse": True, "propagate_preflight": True},
            "frames": list(range(last, -1, -1)),
            "obj_ids": [5, 9],
        },
    ]
    side = 16 * shape.grid
    mask = torch.zeros(side, side)
    mask[side // 2 :, : side // 3] = 1
    inputs = {"pixels": _pixels(shape, shape.num_frames), "step1.mask": mask}
    for name, choice in (("of_three", True), ("of_three_no_selection", False)):
        path = folder / f"tracker_e2e_{name}.safetensors"
        script = {"video_height": shape.video[0], "video_width": shape.video[1], "num_frames": shape.num_frames}
        metadata = {"script": script | {"memory_selection": choice, "steps": steps}}
        _save(path, inputs, {}, metadata)
        tracker = tracker_network.build_tracker(folder)
        found = tracker_sessions.run_script(tracker, tracker_sessions.stub_backbone(folder), Fixture(path))
        _save(path, inputs, found, metadata)


def _write_video(folder: Path, shape: Shape) -> None:
    """A text on a middle frame, both directions, a click, a removal; frames without any detection."""
    path, start = folder / "video_of_two.json", 2
    side = 4 * shape.grid
    inputs = {"pixels": _pixels(shape, shape.num_frames)}
    for frame in range(shape.num_frames - 1):
        masks = torch.full((2, side, side), -3.0)
        masks[0, 2:8, frame : frame + 7] = 3.0
        masks[1, -6:-1, -8:-1] = 3.0
        inputs |= {f"det{frame}.logits": torch.tensor([2.0, 1.5]), f"det{frame}.mask_logits": masks}
        inputs[f"det{frame}.boxes_xyxy"] = torch.tensor([[0.1, 0.1, 0.4, 0.4], [0.6, 0.7, 0.9, 0.9]])
    requests = [
        {"type": "add_prompt", "frame_index": start, "text": "thing"},
        {"type": "propagate_in_video", "start_frame_index": start},
        {"type": "add_prompt", "frame_index": 1, "points": [[0.5, 0.5]], "point_labels": [1], "obj_id": 4},
        {"type": "remove_object", "obj_id": 0},
        {"type": "propagate_in_video", "propagation_direction": "backward", "start_frame_index": 4},
    ]
    overrides = {"hotstart_delay": 3, "hotstart_unmatch_thresh": 2, "hotstart_dup_thresh": 2, "fill_hole_area": 3}
    overrides |= {"suppress_det_close_to_boundary": True, "recondition_every_nth_frame": 3}
    height, width = shape.video
    info = {"num_frames": shape.num_frames, "orig_height": height, "orig_width": width, "memory_selection": True}
    record = {"info": info | {"model_overrides": overrides}, "steps": []}
    path.write_text(json.dumps(record))
    _save(path.with_suffix(".safetensors"), inputs, {}, {})
    run, outputs = tracker_videos.Run(folder, path), {}
    for number, request in enumerate(requests):
        listed = []
        for index, (frame, shown) in enumerate(run.do(request)):
            key = f"out.step{number}.{index}"
            listed.append({"key": key, "frame_index": frame, "obj_ids": shown.obj_ids})
            kinds = {"probs": shown.scores, "boxes_xywh": shown.boxes_xywh}
            packed = torch.from_numpy(np.packbits(shown.masks.numpy().reshape(-1)))
            outputs |= {f"{key[4:]}.{kind}": value for kind, value in (kinds | {"masks_packed": packed}).items()}
        record["steps"].append({"request": request, "outputs": listed})
    path.write_text(json.dumps(record))
    _save(path.with_suffix(".safetensors"), inputs, outputs, {})


def spoil(path: Path) -> str:
    """Change the first expected number of a fixture that is not all the same; its name."""
    tensors, kept = load_file(path), Fixture(path)
    key = next(key for key in sorted(tensors) if key.startswith("out.") and tensors[key].is_floating_point())
    tensors[key] = tensors[key] + 1
    save_file(tensors, path, kept.texts)
    return key
