"""A network of 60 thousand parameters and inputs for it."""

import pytest
import torch
from torch import Tensor

from sam3.config import DetectorConfig, ModelConfig, NeckConfig, TextConfig, VisionConfig
from sam3.model.detector.detector import Sam3Image
from sam3.model.initialization import initialize_weights
from sam3.structures import GeometricPrompt

SMALL = ModelConfig(
    vision=VisionConfig(
        image_size=56,
        pretrain_image_size=28,
        embed_dim=32,
        depth=2,
        num_heads=2,
        mlp_ratio=2.0,
        window_size=3,
        global_blocks=(1,),
        drop_path_rate=0.1,
    ),
    neck=NeckConfig(),
    text=TextConfig(vocab_size=64, context_length=8, width=32, num_heads=2, num_layers=2, projection_dim=4),
    detector=DetectorConfig(
        d_model=32,
        num_heads=4,
        dim_feedforward=48,
        dropout=0.1,
        geometry_layers=1,
        encoder_layers=2,
        decoder_layers=2,
        num_queries=5,
        prompt_mlp_dim=40,
    ),
)


@pytest.fixture
def config() -> ModelConfig:
    """Small, but with every part: windows that need padding, dropout, all neck levels."""
    return SMALL


@pytest.fixture
def model() -> Sam3Image:
    """The small network in evaluation mode, with boxes that move and scores that differ."""
    torch.manual_seed(0)
    model = Sam3Image(SMALL)
    initialize_weights(model)
    torch.nn.init.normal_(model.transformer.decoder.bbox_embed.layers[-1].weight, std=0.3)
    return model.eval()


@pytest.fixture
def images() -> Tensor:
    """Two random images."""
    return torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def token_ids() -> Tensor:
    """Three phrases of different lengths."""
    return torch.tensor([[62, 5, 63, 0, 0, 0, 0, 0], [62, 7, 9, 63, 0, 0, 0, 0], [62, 11, 12, 13, 14, 15, 16, 63]])


@pytest.fixture
def prompt() -> GeometricPrompt:
    """Boxes and points for three prompts, padded; one box leaves the image."""
    prompt = GeometricPrompt.empty(3)
    prompt.boxes = torch.tensor(
        [[[0.5, 0.5, 0.2, 0.4], [0.9, 0.1, 0.5, 0.5]], [[0.3, 0.3, 0.1, 0.1], [0, 0, 0, 0]], [[0, 0, 0, 0]] * 2]
    )
    prompt.box_labels = torch.tensor([[1, 0], [1, 0], [0, 0]])
    prompt.box_mask = torch.tensor([[False, False], [False, True], [True, True]])
    prompt.points = torch.tensor([[[0.1, 0.2]], [[0.0, 0.0]], [[0.7, 0.6]]])
    prompt.point_labels = torch.tensor([[0], [0], [1]])
    prompt.point_mask = torch.tensor([[False], [True], [False]])
    return prompt
