"""The tracker's network in ``transformers``: an independent program to compare ours with, piece by piece."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sam3.config import TrackerConfig
from sam3.io.transformers_tracker_names import tracker_to_transformers
from sam3.model.layers.position import encode_map
from sam3.model.tracker.tracker import Tracker, TrackerFeatures


@dataclass(frozen=True)
class Difference:
    """One piece: the largest absolute difference of both programs, and the largest value."""

    piece: str
    difference: float
    scale: float
    expected: float  # the difference that the specification recorded for the released size; relative limit for tests

    @property
    def relative(self) -> float:
        return self.difference / max(self.scale, 1e-12)


def build_peer(tracker: Tracker) -> nn.Module:
    """``Sam3TrackerVideoModel`` without its image encoder, of the same shape and with the weights of ``tracker``."""
    from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoModel

    peer = Sam3TrackerVideoModel(_peer_config(tracker.config), remove_vision_encoder=True)
    peer.load_state_dict(tracker_to_transformers(tracker.state_dict()))
    return peer.eval()


def _peer_config(config: TrackerConfig) -> object:
    from transformers import Sam3TrackerVideoConfig

    width, grid = config.d_model, config.grid_size
    sizes = {"hidden_size": width, "image_size": config.image_size, "patch_size": config.patch_size}
    return Sam3TrackerVideoConfig(
        vision_config={
            "model_type": "sam3_vision_model",
            "fpn_hidden_size": width,
            "backbone_feature_sizes": [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2],
        },
        prompt_encoder_config=sizes | {"mask_input_channels": config.mask_prompt_channels},
        mask_decoder_config={
            "hidden_size": width,
            "mlp_dim": config.decoder_mlp_dim,
            "num_hidden_layers": config.decoder_layers,
            "num_attention_heads": config.decoder_heads,
            "attention_downsample_rate": config.attention_downsample_rate,
            "num_multimask_outputs": config.num_multimask_outputs,
            "iou_head_depth": config.iou_head_depth,
            "iou_head_hidden_dim": config.iou_head_hidden_dim,
        },
        num_maskmem=config.num_maskmem,
        image_size=config.image_size,
        memory_attention_hidden_size=width,
        memory_attention_num_layers=config.memory_attention_layers,
        memory_attention_num_attention_heads=config.memory_attention_heads,
        memory_attention_feed_forward_hidden_size=config.memory_attention_mlp_dim,
        memory_attention_rope_feat_sizes=[grid, grid],
        rope_parameters={"rope_theta": config.rope_theta, "rope_type": "axial"},
        memory_encoder_hidden_size=width,
        memory_encoder_output_channels=config.memory_dim,
        mask_downsampler_embed_dim=256,
        memory_fuser_num_layers=config.fuser_layers,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=4 * width,
        memory_fuser_kernel_size=config.fuser_kernel,
        memory_fuser_padding=config.fuser_kernel // 2,
    )


@torch.no_grad()
def compare(tracker: Tracker, peer: nn.Module, *, batch: int = 2) -> Iterator[Difference]:
    """The pieces of spec/tracker_video.md 12 on random inputs, in its order."""
    yield from _prompts(tracker, peer, batch)
    yield from _decoder(tracker, peer, batch)
    yield from _memory(tracker, peer, batch)
    yield from _attention(tracker, peer, batch)
    yield from _mask_prompt(tracker, peer)


def _difference(piece: str, ours: Tensor, theirs: Tensor, expected: float) -> Difference:
    ours, theirs = ours.float(), theirs.float()
    assert ours.shape == theirs.shape, (piece, ours.shape, theirs.shape)
    return Difference(piece, float((ours - theirs).abs().max()), float(theirs.abs().max()), expected)


def _prompts(tracker: Tracker, peer: nn.Module, batch: int) -> Iterator[Difference]:
    config = tracker.config
    grid, side = (config.grid_size,) * 2, config.low_res_size
    encoder, other = tracker.sam_prompt_encoder, peer.prompt_encoder
    points, labels = torch.rand(batch, 4, 2) * config.image_size, torch.tensor([1, 0, -1, 1]).expand(batch, 4)
    boxes, masks = torch.rand(batch, 2, 2) * config.image_size, torch.randn(batch, 1, side, side)
    corners = torch.tensor([2, 3]).expand(batch, 2)
    sparse, dense = encoder(points=(points, labels), grid=grid)
    their_sparse, their_dense = other(points[:, None], labels[:, None], None, None)
    yield _difference("prompt encoder: points", sparse, their_sparse[:, 0], 0.0)
    box = encoder(points=(boxes, corners), grid=grid)[0]
    theirs = other(None, None, boxes.reshape(batch, 1, 4), None)[0]
    yield _difference("prompt encoder: box", box, theirs[:, 0], 0.0)
    yield _difference("prompt encoder: no mask", dense, their_dense, 0.0)
    code = encoder.dense_code(grid)
    yield _difference("prompt encoder: dense code", code, peer.get_image_wide_positional_embeddings(), 0.0)
    yield _difference(
        "prompt encoder: mask", encoder(masks=masks, grid=grid)[1], other(None, None, None, masks)[1], 3e-8
    )


def _features(tracker: Tracker, rows: int) -> TrackerFeatures:
    width, grid = tracker.config.d_model, tracker.config.grid_size
    pyramid = [torch.randn(rows, width, scale * grid, scale * grid) for scale in (4, 2, 1)]
    return TrackerFeatures(pyramid[2], tracker.sam_mask_decoder.skips(pyramid[0], pyramid[1]))


def _decoder(tracker: Tracker, peer: nn.Module, batch: int) -> Iterator[Difference]:
    features = _features(tracker, batch)
    dense = torch.randn_like(features.top)
    sparse = torch.randn(batch, 3, tracker.config.d_model)
    code = tracker.sam_prompt_encoder.dense_code(features.grid)
    for name, multimask in (("multi", True), ("single, dynamic fallback", False)):
        ours = tracker.sam_mask_decoder(features.top, code, sparse, dense, skips=features.skips, multimask=multimask)
        theirs = peer.mask_decoder(
            image_embeddings=features.top,
            image_positional_embeddings=code.expand_as(features.top),
            sparse_prompt_embeddings=sparse[:, None],
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=list(features.skips),
        )
        parts = zip(
            ("masks", "IoU", "tokens", "object score"),
            (ours.masks, ours.ious, ours.tokens, ours.object_score_logits),
            (value.flatten(0, 1) for value in theirs),
            strict=True,
        )
        for part, mine, other in parts:
            yield _difference(f"mask decoder ({name}): {part}", mine, other, 2.4e-7 if part == "masks" else 0.0)


def _memory(tracker: Tracker, peer: nn.Module, batch: int) -> Iterator[Difference]:
    features, config = _features(tracker, batch), tracker.config
    side = config.memory_mask_size
    masks = 20 * torch.rand(batch, 1, side, side) - 10
    theirs, position = peer.memory_encoder(features.top, masks)
    yield _difference("memory encoder: features", tracker.maskmem_backbone(features.top, masks), theirs, 3.6e-7)
    code = encode_map(*features.grid, config.memory_dim, masks.device).expand_as(theirs)
    yield _difference("memory encoder: position", code, position, 0.0)
    # At the size of the memory's input: of other sizes, the peer resizes the logits and ours the scaled probabilities.
    logits = 5 * torch.randn(batch, 1, side, side)
    scores = torch.linspace(1, -1, batch)[:, None]
    flat = features.top.flatten(2).permute(2, 0, 1)
    for is_prompted in (False, True):
        ours = tracker.remember(features, logits, scores, is_prompted=is_prompted).to(torch.bfloat16)
        stored, _ = peer._encode_new_memory(flat, logits, scores[..., None], is_prompted)
        name = "hard" if is_prompted else "soft"
        theirs = stored.permute(1, 2, 0).unflatten(2, features.grid)
        yield _difference(f"encode new memory, {name} masks (bfloat16)", ours, theirs, 7.8e-3)


def _attention(
    tracker: Tracker, peer: nn.Module, batch: int, maps: int = 2, pointers: int = 12
) -> Iterator[Difference]:
    config = tracker.config
    cells, grid = config.grid_size**2, (config.grid_size,) * 2
    frame = torch.randn(batch, cells, config.d_model)
    code = encode_map(*grid, config.d_model, frame.device).flatten(2).transpose(1, 2).expand_as(frame)
    memory, position = (torch.randn(batch, maps * cells + pointers, config.memory_dim) for _ in range(2))
    ours = tracker.transformer.encoder(frame, code, memory, position, grid=grid, num_pointers=pointers)
    theirs = peer.memory_attention(
        *(value.transpose(0, 1) for value in (frame, memory, code, position)), num_object_pointer_tokens=pointers
    )
    theirs = theirs[0]  # it adds an axis of heads
    name = f"memory attention, {maps} memory frames + {pointers} pointer tokens"
    yield _difference(name, ours, theirs, 1.9e-6)


def _mask_prompt(tracker: Tracker, peer: nn.Module) -> Iterator[Difference]:
    """The peer's own way differs: it takes the token of the best of three masks, and the mask at another size."""
    features, side = _features(tracker, 1), tracker.config.image_size
    mask = torch.zeros(1, 1, side, side)
    mask[..., side // 4 : side // 2, side // 3 :] = 1
    large = torch.nn.functional.interpolate(mask, (tracker.config.memory_mask_size,) * 2, mode="nearest")
    ours = tracker.use_mask(large, features).pointers
    embeddings = [*features.skips, features.top]
    theirs = peer._single_frame_forward(
        input_masks=peer.mask_downsample(large), image_embeddings=embeddings, multimask_output=False
    )
    yield _difference("mask prompt: pointer, both as here", ours, theirs.object_pointer.reshape(ours.shape), 5e-6)
    theirs = peer._use_mask_as_output(features.top, list(features.skips), mask)
    name = "mask prompt: pointer, the peer its own way (known to differ)"
    yield _difference(name, ours, theirs.object_pointer.reshape(ours.shape), 1e-1)
