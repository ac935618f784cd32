"""Weights of the tracker under the names of the ``transformers`` library (``Sam3TrackerVideoModel``), and back.

The layers are the same, one by one; only the four point embeddings are one table there, and the random matrix of
positions is kept twice. Source: spec/tracker_video.md 12.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_ATTENTION = {f"{name}_proj.": f"{name}_proj." for name in "qkv"} | {"out_proj.": "o_proj."}
_FOURIER = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_FOURIER_COPY = "shared_image_embedding.positional_embedding"
_POINTS, _POINT_TABLE = "sam_prompt_encoder.point_embeddings.", "prompt_encoder.point_embed.weight"


def _under(ours: str, theirs: str, rows: Mapping[str, str]) -> dict[str, str]:
    return {ours + own: theirs + other for own, other in rows.items()}


def _mlp(ours: str, theirs: str) -> dict[str, str]:
    names = ("proj_in.", "layers.0.", "proj_out.")
    return {f"{ours}layers.{n}.": f"{theirs}{name}" for n, name in enumerate(names)}


_MEMORY, _THEIR_MEMORY = "transformer.encoder.", "memory_attention."
_LAYER, _THEIR_LAYER = f"{_MEMORY}layers.#.", f"{_THEIR_MEMORY}layers.#."
_DECODER, _THEIR_DECODER = "sam_mask_decoder.", "mask_decoder."
_TWO_WAY, _THEIR_TWO_WAY = f"{_DECODER}transformer.", f"{_THEIR_DECODER}transformer."
_BLOCK, _THEIR_BLOCK = f"{_TWO_WAY}layers.#.", f"{_THEIR_TWO_WAY}layers.#."
_DOWN, _THEIR_DOWN = "maskmem_backbone.mask_downsampler.encoder.", "memory_encoder.mask_downsampler."

# A row stands for a weight and a bias if it ends with a dot. "#" is a number.
_NAMES: dict[str, str] = {
    "maskmem_tpos_enc": "memory_temporal_positional_encoding",
    "no_mem_embed": "no_memory_embedding",
    "no_mem_pos_enc": "no_memory_positional_encoding",
    "no_obj_ptr": "no_object_pointer",
    "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
    "mask_downsample.": "mask_downsample.",
    "obj_ptr_tpos_proj.": "temporal_positional_encoding_projection_layer.",
    **_mlp("obj_ptr_proj.", "object_pointer_proj."),
    # memory attention
    **_under(f"{_LAYER}self_attn.", f"{_THEIR_LAYER}self_attn.", _ATTENTION),
    **_under(f"{_LAYER}cross_attn_image.", f"{_THEIR_LAYER}cross_attn_image.", _ATTENTION),
    **_under(_LAYER, _THEIR_LAYER, {f"linear{n}.": f"linear{n}." for n in (1, 2)}),
    **_under(_LAYER, _THEIR_LAYER, {f"norm{n}.": f"layer_norm{n}." for n in (1, 2, 3)}),
    f"{_MEMORY}norm.": f"{_THEIR_MEMORY}layer_norm.",
    # memory encoder
    **{f"{_DOWN}{3 * n}.": f"{_THEIR_DOWN}layers.{n}.conv." for n in range(4)},
    **{f"{_DOWN}{3 * n + 1}.": f"{_THEIR_DOWN}layers.{n}.layer_norm." for n in range(4)},
    f"{_DOWN}12.": f"{_THEIR_DOWN}final_conv.",
    "maskmem_backbone.pix_feat_proj.": "memory_encoder.feature_projection.",
    "maskmem_backbone.out_proj.": "memory_encoder.projection.",
    **_under(
        "maskmem_backbone.fuser.layers.#.",
        "memory_encoder.memory_fuser.layers.#.",
        {
            "gamma": "scale",
            "dwconv.": "depthwise_conv.",
            "norm.": "layer_norm.",
            "pwconv1.": "pointwise_conv1.",
            "pwconv2.": "pointwise_conv2.",
        },
    ),
    # prompt encoder
    _FOURIER: "prompt_encoder.shared_embedding.positional_embedding",
    "sam_prompt_encoder.not_a_point_embed.": "prompt_encoder.not_a_point_embed.",
    "sam_prompt_encoder.no_mask_embed.": "prompt_encoder.no_mask_embed.",
    **_under(
        "sam_prompt_encoder.mask_downscaling.",
        "prompt_encoder.mask_embed.",
        {"0.": "conv1.", "1.": "layer_norm1.", "3.": "conv2.", "4.": "layer_norm2.", "6.": "conv3."},
    ),
    # mask decoder
    **{f"{_DECODER}{name}.": f"{_THEIR_DECODER}{name}." for name in ("iou_token", "mask_tokens", "obj_score_token")},
    **{f"{_DECODER}{name}.": f"{_THEIR_DECODER}{name}." for name in ("conv_s0", "conv_s1")},
    **_under(
        f"{_DECODER}output_upscaling.",
        _THEIR_DECODER,
        {"0.": "upscale_conv1.", "1.": "upscale_layer_norm.", "3.": "upscale_conv2."},
    ),
    **_mlp(f"{_DECODER}output_hypernetworks_mlps.#.", f"{_THEIR_DECODER}output_hypernetworks_mlps.#."),
    **_mlp(f"{_DECODER}iou_prediction_head.", f"{_THEIR_DECODER}iou_prediction_head."),
    **_mlp(f"{_DECODER}pred_obj_score_head.", f"{_THEIR_DECODER}pred_obj_score_head."),
    **{
        key: value
        for name in ("self_attn.", "cross_attn_token_to_image.", "cross_attn_image_to_token.")
        for key, value in _under(_BLOCK + name, _THEIR_BLOCK + name, _ATTENTION).items()
    },
    **_under(_BLOCK, _THEIR_BLOCK, {f"norm{n}.": f"layer_norm{n}." for n in (1, 2, 3, 4)}),
    **_under(_BLOCK, _THEIR_BLOCK, {"mlp.lin1.": "mlp.proj_in.", "mlp.lin2.": "mlp.proj_out."}),
    **_under(f"{_TWO_WAY}final_attn_token_to_image.", f"{_THEIR_TWO_WAY}final_attn_token_to_image.", _ATTENTION),
    f"{_TWO_WAY}norm_final_attn.": f"{_THEIR_TWO_WAY}layer_norm_final_attn.",
}


def _compiled(rows: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    """Patterns of whole names; the number and the leaf are filled in from the match."""
    return [
        (
            re.compile(
                re.escape(source).replace(r"\#", r"(?P<number>\d+)")
                + ("(?P<leaf>weight|bias)" if source[-1] == "." else "")
            ),
            target,
        )
        for source, target in rows.items()
    ]


_TO_THEIRS = _compiled(_NAMES)
_TO_OURS = _compiled({theirs: ours for ours, theirs in _NAMES.items()})


def _renamed(name: str, table: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, target in table:
        if match := pattern.fullmatch(name):
            groups = match.groupdict()
            return target.replace("#", groups.get("number") or "") + (groups.get("leaf") or "")
    return None


def tracker_to_transformers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tracker's weights (no prefix) under the names of ``Sam3TrackerVideoModel``."""
    points = {name: tensor for name, tensor in state_dict.items() if name.startswith(_POINTS)}
    renamed = {_renamed(name, _TO_THEIRS) or name: tensor for name, tensor in state_dict.items() if name not in points}
    if points:
        renamed[_POINT_TABLE] = torch.cat([points[f"{_POINTS}{label}.weight"] for label in range(len(points))])
    if _FOURIER in state_dict:
        renamed[_FOURIER_COPY] = state_dict[_FOURIER].clone()
    return renamed


def tracker_from_transformers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse; names that are none of the tracker's stay as they are."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        if name == _POINT_TABLE:
            renamed |= {f"{_POINTS}{label}.weight": row.clone() for label, row in enumerate(tensor.split(1))}
        elif name != _FOURIER_COPY:
            renamed[_renamed(name, _TO_OURS) or name] = tensor
    return renamed
