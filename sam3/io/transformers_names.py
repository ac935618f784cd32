"""Weights of the image model under the names of the ``transformers`` library, and back.

``transformers`` holds the same network as ``Sam3Model``: attention projections are split in q, k and
v, the position of the unused class token is cut off, and one matrix is transposed. It has no point
prompts, and only its video model has the second neck. Source: spec/detector.md section 18.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from sam3.errors import CheckpointError

VIDEO_PREFIX = "detector_model."  # of the image model inside a video file
NECK_PREFIX = "tracker_neck."  # second neck, video files only
TRACKER_PREFIX = "tracker_model."

SECOND_NECK = "backbone.vision_backbone.sam2_convs."
POINT_PROMPTS = r"geometry_encoder\.points_(direct|pool|pos_enc)_project\.(weight|bias)"  # ours alone


def is_transformers_name(name: str) -> bool:
    """Whether ``name`` is one of ``Sam3Model`` or ``Sam3VideoModel``, tracker included."""
    return name.startswith(TRACKER_PREFIX) or _our_name(name.removeprefix(VIDEO_PREFIX)) is not None


def to_transformers(state_dict: Mapping[str, Tensor], *, video_file: bool = False) -> dict[str, Tensor]:
    """Our image model's weights under the names of ``Sam3Model``.

    Args:
        state_dict: names of the image model without prefix.
        video_file: write the names of ``Sam3VideoModel`` instead, which keeps the second neck.

    Returns:
        The renamed tensors; point prompts, and the second neck of image files, have no counterpart
        and are left out.

    Raises:
        CheckpointError: a name that is not one of the image model.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        if re.fullmatch(POINT_PROMPTS, name) or (name.startswith(SECOND_NECK) and not video_file):
            continue
        theirs = _their_name(name)
        if theirs is None:
            raise CheckpointError(
                f"tensor {name!r} has no counterpart in transformers; expected the image model's names"
            )
        prefix = VIDEO_PREFIX if video_file and not theirs.startswith(NECK_PREFIX) else ""
        renamed.update(_split(prefix + theirs, tensor))
    return renamed


def from_transformers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of ``Sam3Model`` under our names; ``detector_model.`` and ``tracker_neck.`` are understood.

    Raises:
        CheckpointError: a name that is not one of ``Sam3Model``, or a q, k or v that lacks its partners.
    """
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state_dict.items():
        found = _our_name(name.removeprefix(VIDEO_PREFIX))
        if found is None:
            raise CheckpointError(f"tensor {name!r} is not one of transformers' Sam3Model")
        ours, part = found
        if part:
            parts.setdefault(ours, {})[part] = tensor
        else:
            renamed[ours] = _undo(ours, tensor)
    for ours, by_part in parts.items():
        if missing := [part for part in "qkv" if part not in by_part]:
            raise CheckpointError(f"tensor {ours!r} needs the projections q, k and v; {', '.join(missing)} missing")
        renamed[ours] = torch.cat([by_part[part] for part in "qkv"])
    return renamed


# ---------------------------------------------------------------------------------------------------------------------
# The table. A name ends with a leaf, weight or bias, unless its row stands for a whole tensor (no final
# "." or "_"). "#" is a layer number, "?" one of q, k, v.


def _attention(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.in_proj_": f"{theirs}.?_proj.", f"{ours}.out_proj.": f"{theirs}.o_proj."}


def _mlp(ours: str, theirs: str, depth: int) -> dict[str, str]:
    return {f"{ours}.layers.{n}.": f"{theirs}.layer{n + 1}." for n in range(depth)}


def _neck(ours: str, theirs: str) -> dict[str, str]:
    return {
        f"{ours}0.dconv_2x2_0.": f"{theirs}0.scale_layers.0.",
        f"{ours}0.dconv_2x2_1.": f"{theirs}0.scale_layers.2.",
        f"{ours}1.dconv_2x2.": f"{theirs}1.scale_layers.0.",
        f"{ours}#.conv_1x1.": f"{theirs}#.proj1.",
        f"{ours}#.conv_3x3.": f"{theirs}#.proj2.",
    }


def _layer(ours: str, theirs: str, *, norms: dict[str, str]) -> dict[str, str]:
    """Feed-forward and norms that all three transformers have in each layer."""
    rows = {"linear1.": "mlp.fc1.", "linear2.": "mlp.fc2."} | {f"{a}.": f"{b}." for a, b in norms.items()}
    return {f"{ours}.{a}": f"{theirs}.{b}" for a, b in rows.items()}


_PRE_NORMS = {"norm1": "layer_norm1", "norm2": "layer_norm2", "norm3": "layer_norm3"}
_DECODER_NORMS = {
    "norm1": "vision_cross_attn_layer_norm",
    "catext_norm": "text_cross_attn_layer_norm",
    "norm2": "self_attn_layer_norm",
    "norm3": "mlp_layer_norm",
}
_TRUNK, _THEIR_TRUNK = "backbone.vision_backbone.trunk.", "vision_encoder.backbone."
_TEXT, _THEIR_TEXT = "backbone.language_backbone.encoder.", "text_encoder.text_model."
_TEXT_LAYER, _THEIR_TEXT_LAYER = f"{_TEXT}transformer.resblocks.#.", f"{_THEIR_TEXT}encoder.layers.#."
_DECODER_LAYER, _THEIR_DECODER_LAYER = "transformer.decoder.layers.#", "detr_decoder.layers.#"
_CLASS_TOKEN = f"{_TRUNK}pos_embed"
_TRANSPOSED = f"{_TEXT}text_projection"

_NAMES: dict[str, str] = {
    # vision trunk and necks
    _CLASS_TOKEN: f"{_THEIR_TRUNK}embeddings.position_embeddings",
    f"{_TRUNK}patch_embed.proj.": f"{_THEIR_TRUNK}embeddings.patch_embeddings.projection.",
    f"{_TRUNK}ln_pre.": f"{_THEIR_TRUNK}layer_norm.",
    f"{_TRUNK}blocks.#.norm1.": f"{_THEIR_TRUNK}layers.#.layer_norm1.",
    f"{_TRUNK}blocks.#.norm2.": f"{_THEIR_TRUNK}layers.#.layer_norm2.",
    f"{_TRUNK}blocks.#.attn.qkv.": f"{_THEIR_TRUNK}layers.#.attention.?_proj.",
    f"{_TRUNK}blocks.#.attn.proj.": f"{_THEIR_TRUNK}layers.#.attention.o_proj.",
    f"{_TRUNK}blocks.#.mlp.fc1.": f"{_THEIR_TRUNK}layers.#.mlp.fc1.",
    f"{_TRUNK}blocks.#.mlp.fc2.": f"{_THEIR_TRUNK}layers.#.mlp.fc2.",
    **_neck("backbone.vision_backbone.convs.", "vision_encoder.neck.fpn_layers."),
    **_neck(SECOND_NECK, f"{NECK_PREFIX}fpn_layers."),
    # text encoder
    f"{_TEXT}token_embedding.weight": f"{_THEIR_TEXT}embeddings.token_embedding.weight",
    f"{_TEXT}positional_embedding": f"{_THEIR_TEXT}embeddings.position_embedding.weight",
    f"{_TEXT}ln_final.": f"{_THEIR_TEXT}final_layer_norm.",
    _TRANSPOSED: "text_encoder.text_projection.weight",
    "backbone.language_backbone.resizer.": "text_projection.",
    f"{_TEXT_LAYER}ln_1.": f"{_THEIR_TEXT_LAYER}layer_norm1.",
    f"{_TEXT_LAYER}ln_2.": f"{_THEIR_TEXT_LAYER}layer_norm2.",
    f"{_TEXT_LAYER}attn.in_proj_": f"{_THEIR_TEXT_LAYER}self_attn.?_proj.",
    f"{_TEXT_LAYER}attn.out_proj.": f"{_THEIR_TEXT_LAYER}self_attn.out_proj.",
    f"{_TEXT_LAYER}mlp.c_fc.": f"{_THEIR_TEXT_LAYER}mlp.fc1.",
    f"{_TEXT_LAYER}mlp.c_proj.": f"{_THEIR_TEXT_LAYER}mlp.fc2.",
    # geometry encoder
    "geometry_encoder.label_embed.weight": "geometry_encoder.label_embed.weight",
    "geometry_encoder.cls_embed.weight": "geometry_encoder.cls_embed.weight",
    **{
        f"geometry_encoder.{name}.": f"geometry_encoder.{name}."
        for name in ("boxes_direct_project", "boxes_pool_project", "boxes_pos_enc_project", "final_proj")
    },
    "geometry_encoder.norm.": "geometry_encoder.prompt_layer_norm.",
    "geometry_encoder.img_pre_norm.": "geometry_encoder.vision_layer_norm.",
    "geometry_encoder.encode_norm.": "geometry_encoder.output_layer_norm.",
    **_attention("geometry_encoder.encode.#.self_attn", "geometry_encoder.layers.#.self_attn"),
    **_attention("geometry_encoder.encode.#.cross_attn_image", "geometry_encoder.layers.#.cross_attn"),
    **_layer("geometry_encoder.encode.#", "geometry_encoder.layers.#", norms=_PRE_NORMS),
    # fusion encoder
    **_attention("transformer.encoder.layers.#.self_attn", "detr_encoder.layers.#.self_attn"),
    **_attention("transformer.encoder.layers.#.cross_attn_image", "detr_encoder.layers.#.cross_attn"),
    **_layer("transformer.encoder.layers.#", "detr_encoder.layers.#", norms=_PRE_NORMS),
    # decoder
    **_attention(f"{_DECODER_LAYER}.self_attn", f"{_THEIR_DECODER_LAYER}.self_attn"),
    **_attention(f"{_DECODER_LAYER}.ca_text", f"{_THEIR_DECODER_LAYER}.text_cross_attn"),
    **_attention(f"{_DECODER_LAYER}.cross_attn", f"{_THEIR_DECODER_LAYER}.vision_cross_attn"),
    **_layer(_DECODER_LAYER, _THEIR_DECODER_LAYER, norms=_DECODER_NORMS),
    **{
        f"transformer.decoder.{name}.weight": f"detr_decoder.{name}.weight"
        for name in ("query_embed", "reference_points", "presence_token")
    },
    "transformer.decoder.norm.": "detr_decoder.output_layer_norm.",
    "transformer.decoder.presence_token_out_norm.": "detr_decoder.presence_layer_norm.",
    **_mlp("transformer.decoder.bbox_embed", "detr_decoder.box_head", 3),
    **_mlp("transformer.decoder.presence_token_head", "detr_decoder.presence_head", 3),
    **_mlp("transformer.decoder.ref_point_head", "detr_decoder.ref_point_head", 2),
    **_mlp("transformer.decoder.boxRPB_embed_x", "detr_decoder.box_rpb_embed_x", 2),
    **_mlp("transformer.decoder.boxRPB_embed_y", "detr_decoder.box_rpb_embed_y", 2),
    # segmentation head
    "segmentation_head.pixel_decoder.conv_layers.#.": "mask_decoder.pixel_decoder.conv_layers.#.",
    "segmentation_head.pixel_decoder.norms.#.": "mask_decoder.pixel_decoder.norms.#.",
    "segmentation_head.mask_predictor.mask_embed.layers.#.": "mask_decoder.mask_embedder.layers.#.",
    "segmentation_head.instance_seg_head.": "mask_decoder.instance_projection.",
    "segmentation_head.semantic_seg_head.": "mask_decoder.semantic_projection.",
    **_attention("segmentation_head.cross_attend_prompt", "mask_decoder.prompt_cross_attn"),
    "segmentation_head.cross_attn_norm.": "mask_decoder.prompt_cross_attn_norm.",
    # scoring
    **_mlp("dot_prod_scoring.prompt_mlp", "dot_product_scoring.text_mlp", 2),
    "dot_prod_scoring.prompt_mlp.out_norm.": "dot_product_scoring.text_mlp_out_norm.",
    "dot_prod_scoring.prompt_proj.": "dot_product_scoring.text_proj.",
    "dot_prod_scoring.hs_proj.": "dot_product_scoring.query_proj.",
}

# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Renaming:
    """One row of the table in one direction."""

    pattern: re.Pattern[str]
    replacement: str  # "#", "?" and the leaf are filled in from the match

    @classmethod
    def of(cls, source: str, target: str) -> "_Renaming":
        pattern = re.escape(source).replace(r"\#", r"(?P<number>\d+)").replace(r"\?", "(?P<part>[qkv])")
        return cls(re.compile(pattern + ("(?P<leaf>weight|bias)" if source[-1] in "._" else "")), target)

    def apply(self, name: str) -> tuple[str, str | None] | None:
        """The new name and the part (q, k or v) that the old one stood for; None if the row is another's."""
        match = self.pattern.fullmatch(name)
        if match is None:
            return None
        groups = match.groupdict()
        return self.replacement.replace("#", groups.get("number") or "") + (groups.get("leaf") or ""), groups.get(
            "part"
        )


@lru_cache(maxsize=2)
def _renamings(*, to_ours: bool) -> list[_Renaming]:
    pairs = ((theirs, ours) if to_ours else (ours, theirs) for ours, theirs in _NAMES.items())
    return [_Renaming.of(source, target) for source, target in pairs]


def _their_name(name: str) -> str | None:
    return next((found[0] for found in _matches(name, to_ours=False)), None)


def _our_name(name: str) -> tuple[str, str | None] | None:
    return next(_matches(name, to_ours=True), None)


def _matches(name: str, *, to_ours: bool) -> Iterable[tuple[str, str | None]]:
    return (found for renaming in _renamings(to_ours=to_ours) if (found := renaming.apply(name)))


def _split(theirs: str, tensor: Tensor) -> dict[str, Tensor]:
    """The tensors that stand for ours under their names."""
    if "?" in theirs:
        return {theirs.replace("?", part): chunk.clone() for part, chunk in zip("qkv", tensor.chunk(3), strict=True)}
    if theirs.removeprefix(VIDEO_PREFIX) == _NAMES[_CLASS_TOKEN]:
        return {theirs: tensor[:, 1:].clone()}
    if theirs.removeprefix(VIDEO_PREFIX) == _NAMES[_TRANSPOSED]:
        return {theirs: tensor.T.contiguous()}
    return {theirs: tensor}


def _undo(ours: str, tensor: Tensor) -> Tensor:
    """Our tensor from theirs; the position of the class token, which nothing reads, becomes zero."""
    if ours == _CLASS_TOKEN:
        return torch.cat([torch.zeros_like(tensor[:, :1]), tensor], 1)
    return tensor.T.contiguous() if ours == _TRANSPOSED else tensor
