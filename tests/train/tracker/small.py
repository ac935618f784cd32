"""A tracker of some ten thousand parameters, and clips for it."""

from dataclasses import replace

import torch

from sam3.config import TrackerConfig, tiny
from sam3.data.clips import ClipBatch, ClipOrigin, PromptChances, draw_prompts
from sam3.model.initialization import initialize_tracker, initialize_weights
from sam3.model.video.sam3_video import Sam3Video
from sam3.train.tracker.model import copy_detector_neck

SIDE = 56

OVERRIDES = {
    "vision": {
        "image_size": SIDE,
        "pretrain_image_size": SIDE,
        "embed_dim": 16,
        "num_heads": 2,
        "depth": 1,
        "window_size": 2,
        "global_blocks": (0,),
        "mlp_ratio": 2.0,
    },
    "text": {"width": 8, "num_heads": 2, "num_layers": 1, "projection_dim": 8},
    "detector": {
        "d_model": 16,
        "num_heads": 2,
        "dim_feedforward": 16,
        "decoder_layers": 1,
        "num_queries": 3,
        "prompt_mlp_dim": 16,
    },
    "tracker": {
        "memory_dim": 8,
        "decoder_heads": 2,
        "decoder_mlp_dim": 32,
        "iou_head_hidden_dim": 16,
        "memory_attention_layers": 1,
        "memory_attention_mlp_dim": 32,
    },
}


def small_model(seed: int = 0) -> Sam3Video:
    """Random weights; the detector is frozen, the tracker's pyramid is not."""
    config = tiny()
    parts = {name: replace(getattr(config, name), **values) for name, values in OVERRIDES.items()}
    assert isinstance(parts["tracker"], TrackerConfig)
    torch.manual_seed(seed)
    model = Sam3Video(replace(config, **parts, neck=replace(config.neck, second_neck=True)))
    initialize_weights(model.detector)
    initialize_tracker(model.tracker)
    copy_detector_neck(model)
    for name, parameter in model.detector.named_parameters():
        parameter.requires_grad_(".sam2_convs." in name)
    model.train()
    model.detector.eval()
    return model


def moving_squares(num_clips: int = 2, num_frames: int = 3, *, chances: PromptChances | None = None) -> ClipBatch:
    """Two squares a clip, light and dark, of which the second is hidden on the last frame but one."""
    images = torch.full((num_clips, num_frames, 3, SIDE, SIDE), -0.2)
    masks = torch.zeros(2 * num_clips, num_frames, SIDE, SIDE, dtype=torch.bool)
    for clip in range(num_clips):
        for frame in range(num_frames):
            x = 4 + 5 * frame + 3 * clip
            masks[2 * clip, frame, 6:24, x : x + 18] = True
            masks[2 * clip + 1, frame, 30:48, 40 - x // 2 : 54 - x // 2] = frame + 2 != num_frames
            images[clip, frame][:, masks[2 * clip, frame]] = 0.9
            images[clip, frame][:, masks[2 * clip + 1, frame]] = -0.9
    kinds, points = draw_prompts(masks[:, 0], chances or PromptChances(), torch.Generator().manual_seed(1))
    index = torch.arange(num_clips).repeat_interleave(2)
    return ClipBatch(images, index, masks, kinds, points, ClipOrigin([f"clip {n}" for n in range(num_clips)]))
