"""Compares the parts of the tracker's network with recorded numbers."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from sam3.config import TrackerConfig
from sam3.model.layers.position import encode_map, encode_offsets
from sam3.model.layers.rope import apply_rotary, rotary_table
from sam3.model.tracker.memory_bank import FrameMemory, Moment, recall
from sam3.model.tracker.tracker import Tracker, TrackerFeatures
from tests.parity.report import Row, rows_or_miss

LIMIT = 1e-4  # absolute, of single modules
MASK_LIMIT = 3e-4  # of mask logits


def read_config(folder: Path) -> TrackerConfig:
    """The network that ``config.json`` describes."""
    given = json.loads((folder / "config.json").read_text())
    attention, decoder, settings = given["memory_attention"], given["mask_decoder"], given["tracker"]
    return TrackerConfig(
        d_model=given["hidden_dim"],
        image_size=given["image_size"],
        patch_size=given["backbone_stride"],
        memory_dim=given["mem_dim"],
        mask_prompt_channels=given["prompt_encoder"]["mask_in_chans"],
        decoder_layers=decoder["transformer_depth"],
        decoder_heads=decoder["heads"],
        decoder_mlp_dim=decoder["mlp_dim"],
        attention_downsample_rate=decoder["attention_downsample_rate"],
        num_multimask_outputs=decoder["num_multimask_outputs"],
        iou_head_hidden_dim=decoder["iou_head_hidden_dim"],
        iou_head_depth=decoder["iou_head_depth"],
        memory_attention_layers=attention["layers"],
        memory_attention_heads=attention["heads"],
        memory_attention_mlp_dim=attention["dim_feedforward"],
        rope_theta=attention["rope_theta"],
        fuser_layers=given["memory_encoder"]["fuser_layers"],
        fuser_kernel=given["memory_encoder"]["fuser_kernel"],
        num_maskmem=settings["num_maskmem"],
        max_cond_frames=settings["max_cond_frames_in_attn"],
        max_pointers=settings["max_obj_ptrs_in_encoder"],
        max_points=settings["max_point_num_in_prompt_enc"],
        use_memory_selection=settings["use_memory_selection"],
        memory_selection_threshold=settings["mf_threshold"],
        mask_scale=settings["sigmoid_scale_for_mem_enc"],
        mask_bias=settings["sigmoid_bias_for_mem_enc"],
        multimask_max_points=settings["multimask_max_pt_num"],
        multimask_for_tracking=settings["multimask_output_for_tracking"],
    )


def build_tracker(folder: Path) -> Tracker:
    """The tracker with the folder's weights, in evaluation mode."""
    tracker = Tracker(read_config(folder))
    weights = load_file(folder / "weights.safetensors")
    own = {name.removeprefix("tracker."): value for name, value in weights.items() if name.startswith("tracker.")}
    tracker.load_state_dict(own)
    return tracker.eval()


class Fixture:
    """One safetensors file: inputs, expected outputs, metadata."""

    def __init__(self, path: Path) -> None:
        self.tensors = load_file(path)
        with safe_open(path, "pt") as file:
            self.texts = file.metadata() or {}
        self.name = path.stem

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[f"in.{key}"]

    def get(self, key: str) -> Tensor | None:
        return self.tensors.get(f"in.{key}")

    def meta(self, key: str):
        return json.loads(self.texts[key])

    def expected(self) -> Iterator[str]:
        return (key.removeprefix("out.") for key in self.tensors if key.startswith("out."))

    def row(self, key: str, found: Tensor) -> Row:
        """The largest absolute error; another shape is a miss."""
        expected = self.tensors[f"out.{key}"]
        limit = MASK_LIMIT if "mask" in key.split(".")[-1] else LIMIT
        if expected.shape != found.shape:
            return Row(f"{self.name} {key} shape {tuple(found.shape)}", float("nan"), limit)
        error = (expected.double() - found.double()).abs().max().item() if expected.numel() else 0.0
        return Row(f"{self.name} {key}", error, limit)

    def rows(self, found: dict[str, Tensor]) -> Iterator[Row]:
        """One row for each expected output; one that was not computed is a miss."""
        for key in self.expected():
            yield self.row(key, found[key]) if key in found else Row(f"{self.name} {key} missing", float("nan"), 0)


@torch.no_grad()
def compare(folder: Path) -> list[Row]:
    """A row for every expected output of every file of single modules that the folder holds."""
    tracker = build_tracker(folder)
    rows = []
    for name, check in CHECKS.items():
        path = folder / f"{name}.safetensors"
        if path.exists():
            rows += rows_or_miss(name, lambda path=path, check=check: Fixture(path).rows(check(tracker, Fixture(path))))
    return rows


def position_encodings(tracker: Tracker, given: Fixture) -> dict[str, Tensor]:
    cpu = torch.device("cpu")
    width = tracker.config.d_model
    found: dict[str, Tensor] = {}
    for key in given.expected():
        if key.startswith("sine_2d_feats"):
            channels, size = key.removeprefix("sine_2d_feats").split("_")
            height, map_width = map(int, size.split("x"))
            found[key] = encode_map(height, map_width, int(channels), cpu)
        elif key.startswith("sine_1d_dim"):
            found[key] = encode_offsets(given["rel_pos_over_15"], int(key.removeprefix("sine_1d_dim")))
        elif key.startswith(("rope_cos", "rope_sin")):
            size, dim = key.split("_")[2:]
            height, map_width = map(int, size.split("x"))
            table = _table(height, map_width, int(dim.removeprefix("dim")), tracker)
            found[key] = table.real if "cos" in key else table.imag
    found["ptr_tpos_proj"] = tracker.obj_ptr_tpos_proj(encode_offsets(given["rel_pos_over_15"], width))
    found["dense_pe"] = tracker.sam_prompt_encoder.dense_code((tracker.config.grid_size,) * 2)
    side = round(given["rope_q"].shape[2] ** 0.5)
    table = _table(side, side, given["rope_q"].shape[-1], tracker)
    frames = given["rope_k_two_frames"].shape[2] // len(table)
    found["rope_q"] = apply_rotary(given["rope_q"][0].transpose(0, 1)[None], table)[0].transpose(0, 1)[None]
    keys = given["rope_k_two_frames"][0].transpose(0, 1)[None]
    found["rope_k"] = apply_rotary(keys, table.repeat(frames, 1))[0].transpose(0, 1)[None]
    return found


def _table(height: int, width: int, dim: int, tracker: Tracker) -> Tensor:
    device = torch.device("cpu")
    return rotary_table(height, width, dim, window=height, theta=tracker.config.rope_theta, device=device)


def prompt_encoder(tracker: Tracker, given: Fixture) -> dict[str, Tensor]:
    encoder, grid = tracker.sam_prompt_encoder, (tracker.config.grid_size,) * 2
    points, labels, boxes, masks = given["points"], given["labels"], given["boxes_xyxy"], given["masks"]
    sparse, dense = encoder(points=(points, labels), grid=grid)
    rows = len(boxes)
    both, _ = encoder(points=(points[:rows], labels[:rows]), boxes=boxes, grid=grid)
    no_points, mask_map = encoder(masks=masks, grid=grid)
    nothing = torch.zeros(len(masks), 1, 2), torch.full((len(masks), 1), -1)
    return {
        "points_sparse": sparse,
        "points_dense": dense,
        "boxes_arg_sparse_no_pad": encoder(boxes=boxes, grid=grid)[0],
        "points_plus_boxes_arg_sparse": both,
        "masks_dense": mask_map,
        "masks_only_sparse_shape": torch.tensor(no_points.shape),
        "empty_point_sparse": encoder(points=nothing, masks=masks, grid=grid)[0],
    }


def mask_decoder(tracker: Tracker, given: Fixture) -> dict[str, Tensor]:
    decoder = tracker.sam_mask_decoder
    image, sparse, dense = given["image_embeddings"], given["sparse"], given["dense"]
    code = tracker.sam_prompt_encoder.dense_code(image.shape[-2:])
    skips = given["high_res_s0"], given["high_res_s1"]
    first = tuple(skip[:1] for skip in skips)
    cases = {
        "multi": decoder(image, code, sparse, dense, skips=skips, multimask=True),
        "single": decoder(image, code, sparse, dense, skips=skips, multimask=False),
        "repeat_image": decoder(image[:1], code, sparse, dense, skips=first, multimask=True),
    }
    found = {}
    for name, decoded in cases.items():
        found[f"{name}.masks"], found[f"{name}.iou"] = decoded.masks, decoded.ious
        found[f"{name}.tokens"] = decoded.tokens
        found[f"{name}.object_score_logits"] = decoded.object_score_logits
    every = decoder.decode_all(image, code, sparse, dense, skips)
    found["all_iou"] = every.ious
    found["stability"] = decoder.stability(every.masks[:, 0])[:, None]
    flat = image.flatten(2).transpose(1, 2)
    tokens, keys = decoder.transformer(sparse, flat, code.flatten(2).transpose(1, 2))
    return found | {"two_way_queries": tokens, "two_way_keys": keys}


def memory_encoder(tracker: Tracker, given: Fixture) -> dict[str, Tensor]:
    found = {}
    pixels, grid = given["pix_feat"], given["pix_feat"].shape[-2:]
    features = TrackerFeatures(pixels, (pixels, pixels))
    position = encode_map(*grid, tracker.config.memory_dim, pixels.device)
    for key in given.expected():
        kind, _, rest = key.rpartition("_")
        if kind == "feat":
            found[key] = tracker.maskmem_backbone(pixels, given[f"mask_{rest}"])
        elif kind == "pos":
            found[key] = position.expand(len(pixels), -1, -1, -1)
        else:
            logits = next(value for name, value in given.tensors.items() if name.startswith("in.logits_"))
            scores = given["object_score_logits"]
            found[key] = tracker.remember(features, logits, scores, is_prompted=rest == "True")
    return found


def memory_attention(tracker: Tracker, given: Fixture) -> dict[str, Tensor]:
    found = {}
    side = round(len(given["src"]) ** 0.5)
    for case, num_pointers in given.meta("num_obj_ptr_tokens").items():
        sequence = (given["src"], given["src_pos"], given[f"{case}.prompt"], given[f"{case}.prompt_pos"])
        batch_first = [value.transpose(0, 1) for value in sequence]
        attended = tracker.transformer.encoder(*batch_first, grid=(side, side), num_pointers=num_pointers)
        found[f"{case}.memory"] = attended.transpose(0, 1)
    return found


def memory_conditioned_features(tracker: Tracker, given: Fixture) -> dict[str, Tensor]:
    from dataclasses import replace

    side = round(len(given["current_feat"]) ** 0.5)
    # The module takes the features of one frame for all objects; here every row has its own.
    top = given["current_feat"].permute(1, 2, 0).unflatten(2, (side, side))
    features = TrackerFeatures(top, (top, top))
    scores = {int(frame): score for frame, score in given.meta("non_cond_eff_iou_score").items()}

    def memory(frame: int) -> FrameMemory:
        maps, pointers = given[f"frame{frame}.maskmem_features"], given[f"frame{frame}.obj_ptr"]
        return FrameMemory(maps, maps, pointers, maps, frame_score=scores.get(frame))

    conditioning = {frame: memory(frame) for frame in given.meta("cond_frames")}
    tracked = {frame: memory(frame) for frame in scores}
    moment = Moment(given.meta("frame_idx"), given.meta("num_frames"))
    found = {"init_cond_frame": tracker.without_memory(features)}
    for choice in (True, False):
        config = replace(tracker.config, use_memory_selection=choice)
        remembered = recall(moment, conditioning, tracked, config)
        found[f"memory_selection_{choice}"] = tracker.with_memory(features, remembered, len(top))
    return found


def sam_heads(tracker: Tracker, given: Fixture) -> dict[str, Tensor]:
    top = given["pix_feat"]
    features = TrackerFeatures(top, (given["s0"], given["s1"]))
    found: dict[str, Tensor] = {}
    for case, multimask in given.meta("multimask_output").items():
        found |= _segmented(tracker, given, features, case, case, multimask)
    masked = tracker.use_mask(given["mask_prompt"], features)
    found |= {
        "mask_prompt.ious": masked.ious,
        "mask_prompt.low_res_masks": masked.low_res,
        "mask_prompt.obj_ptr": masked.pointers,
        "mask_prompt.object_score_logits": masked.object_score_logits,
    }
    bias = tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    bias += given.meta("absent_bias_shift")
    found |= _segmented(tracker, given, features, "no_prompt", "absent", True)
    bias -= given.meta("absent_bias_shift")
    return found


def _segmented(
    tracker: Tracker, given: Fixture, features: TrackerFeatures, source: str, name: str, multimask: bool
) -> dict[str, Tensor]:
    coordinates = given.get(f"{source}.coords")
    points = None if coordinates is None else (coordinates, given[f"{source}.labels"])
    out = tracker.segment(features.top, features, points=points, masks=given.get(f"{source}.mask"), multimask=multimask)
    side = (tracker.config.image_size,) * 2
    high = torch.nn.functional.interpolate(out.low_res, side, mode="bilinear", align_corners=False)
    return {
        f"{name}.ious": out.ious,
        f"{name}.low_res_masks": out.low_res,
        f"{name}.low_res_multimasks": out.candidates,
        f"{name}.high_res_masks": high,
        f"{name}.obj_ptr": out.pointers,
        f"{name}.object_score_logits": out.object_score_logits,
    }


CHECKS = {
    "position_encodings": position_encodings,
    "prompt_encoder": prompt_encoder,
    "mask_decoder": mask_decoder,
    "memory_encoder": memory_encoder,
    "memory_attention": memory_attention,
    "memory_conditioned_features": memory_conditioned_features,
    "sam_heads": sam_heads,
}
