"""The same network in ``transformers``: an independent program to measure ours against."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from sam3.config import ModelConfig
from sam3.io.transformers_names import to_transformers
from sam3.model.detector.detector import Sam3Image
from sam3.ops.roi_align import roi_align

MASKED_BOX = -10  # label of a box that only makes the peer add its class token


def build_peer(model: Sam3Image) -> nn.Module:
    """``transformers`` ``Sam3Model`` of the same shape, with the weights of ``model``, for evaluation on its device."""
    from transformers import Sam3Model
    from transformers.models.sam3 import modeling_sam3

    if not hasattr(modeling_sam3, "torchvision"):  # the only function of that library which the peer calls
        modeling_sam3.torchvision = SimpleNamespace(ops=SimpleNamespace(roi_align=_roi_align))
    peer = Sam3Model(peer_config(model.config))
    missing, unexpected = peer.load_state_dict(to_transformers(model.state_dict()), strict=False)
    left_out = [name for name in missing if "position_ids" not in name and "rotary" not in name]
    if left_out or unexpected:
        raise RuntimeError(f"the peer's weights do not fit: missing {left_out[:3]}, unexpected {unexpected[:3]}")
    return peer.eval().to(model.device)


def peer_config(config: ModelConfig) -> object:
    """The peer's configuration; its LayerNorm eps is set to the released model's."""
    from transformers import Sam3Config

    vision, text, detector = config.vision, config.text, config.detector
    sides = [int(vision.grid_size * scale) for scale in config.neck.scale_factors]
    shared = {
        "hidden_size": detector.d_model,
        "num_attention_heads": detector.num_heads,
        "intermediate_size": detector.dim_feedforward,
        "layer_norm_eps": 1e-5,
    }
    return Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": vision.embed_dim,
                "intermediate_size": vision.mlp_dim,
                "num_hidden_layers": vision.depth,
                "num_attention_heads": vision.num_heads,
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
                "window_size": vision.window_size,
                "global_attn_indexes": list(vision.global_blocks),
                "pretrain_image_size": vision.pretrain_image_size,
                "layer_norm_eps": vision.layer_norm_eps,
            },
            "fpn_hidden_size": detector.d_model,
            "backbone_feature_sizes": [[side, side] for side in sides[:-1]],
            "scale_factors": list(config.neck.scale_factors),
        },
        text_config={
            "vocab_size": text.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": int(text.width * text.mlp_ratio),
            "projection_dim": text.projection_dim,
            "num_hidden_layers": text.num_layers,
            "num_attention_heads": text.num_heads,
            "max_position_embeddings": text.context_length,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
        },
        geometry_encoder_config=shared | {"num_layers": detector.geometry_layers, "roi_size": detector.roi_size},
        detr_encoder_config=shared | {"num_layers": detector.encoder_layers},
        detr_decoder_config=shared | {"num_layers": detector.decoder_layers, "num_queries": detector.num_queries},
        mask_decoder_config={
            "hidden_size": detector.d_model,
            "num_attention_heads": detector.num_heads,
            "num_upsampling_stages": detector.pixel_decoder_stages,
            "layer_norm_eps": 1e-5,
        },
    )


def run_peer(peer: nn.Module, images: Tensor, token_ids: Tensor, *, class_token: bool) -> object:
    """One phrase per image, without example boxes.

    With ``class_token``, a masked box makes the peer compute the same function as ours; left to itself it skips
    the geometry encoder, which is less work and another result (spec detector 18).
    """
    batch, geometry = len(images), {}
    if class_token:
        geometry["input_boxes"] = images.new_zeros(batch, 1, 4)
        geometry["input_boxes_labels"] = token_ids.new_full((batch, 1), MASKED_BOX)
    attention_mask = (token_ids != 0).long()
    return peer(pixel_values=images, input_ids=token_ids, attention_mask=attention_mask, **geometry)


def _roi_align(features: Tensor, boxes: list[Tensor], size: int) -> Tensor:
    index = torch.arange(len(boxes), device=features.device)
    counts = torch.tensor([len(rows) for rows in boxes], device=features.device)
    return roi_align(features, torch.cat(list(boxes)), index.repeat_interleave(counts), size)
