"""A very small random model in a weight file, for tests of the commands that read one."""

from dataclasses import replace
from pathlib import Path

import torch

from sam3.config import ModelConfig, tiny
from sam3.io.checkpoint import ModelCard, save_weights
from sam3.model.detector.detector import Sam3Image
from sam3.model_builder import build_sam3_image_model, build_sam3_video_model

RESOLUTION = 56


def small_config() -> ModelConfig:
    config = tiny()
    return replace(
        config,
        vision=replace(config.vision, image_size=RESOLUTION, depth=2, global_blocks=(1,), embed_dim=32, num_heads=2),
        text=replace(config.text, width=16, num_heads=2, num_layers=1, projection_dim=16),
        detector=replace(config.detector, d_model=32, decoder_layers=2, num_queries=6, prompt_mlp_dim=32),
    )


def small_model(seed: int = 0) -> Sam3Image:
    torch.manual_seed(seed)
    return build_sam3_image_model(load_from_HF=False, config=small_config(), device="cpu")


def save_small_checkpoint(
    path: Path, *, prompts: tuple[str, ...] = ("red circle", "blue square"), seed: int = 0
) -> Path:
    """A weight file as training writes it, with a card; untrained, so its scores lie around 0.03."""
    model = small_model(seed)
    card = ModelCard(
        class_names=list(prompts),
        prompts=list(prompts),
        resolution=RESOLUTION,
        model_config=model.config.to_dict(),
        score_threshold=0.001,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, model.state_dict(), card)
    return path


def save_small_video_checkpoint(path: Path, *, prompts: tuple[str, ...] = ("red circle",), seed: int = 0) -> Path:
    """The same with a tracker; what it follows it believes to be there."""
    torch.manual_seed(seed)
    model = build_sam3_video_model(load_from_HF=False, config=small_config(), device="cpu")
    model.tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(3.0)
    card = ModelCard(
        class_names=list(prompts), prompts=list(prompts), resolution=RESOLUTION, model_config=model.config.to_dict()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, model.state_dict(), card)
    return path
