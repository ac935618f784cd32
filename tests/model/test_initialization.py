import math

import pytest
import torch

from sam3.config import ModelConfig
from sam3.model.detector.detector import Sam3Image
from sam3.model.initialization import initialize_weights


@pytest.fixture
def fresh(config: ModelConfig) -> Sam3Image:
    """Built on storage full of NaN, then initialised."""
    torch.manual_seed(0)
    model = Sam3Image(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)
    initialize_weights(model)
    return model


def test_every_parameter_is_set(fresh: Sam3Image) -> None:
    assert [name for name, p in fresh.named_parameters() if not p.isfinite().all()] == []


def test_the_seed_decides(config: ModelConfig, fresh: Sam3Image) -> None:
    torch.manual_seed(0)
    again = Sam3Image(config)
    torch.manual_seed(0)
    Sam3Image(config)
    initialize_weights(again)
    state = fresh.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())


def test_scales(fresh: Sam3Image) -> None:
    decoder, text = fresh.transformer.decoder, fresh.backbone.language_backbone.encoder
    trunk = fresh.backbone.vision_backbone.trunk
    assert decoder.reference_points.weight.std().item() == pytest.approx(1, rel=0.4)
    assert decoder.query_embed.weight.std().item() == pytest.approx(1, rel=0.2)
    assert text.token_embedding.weight.std().item() == pytest.approx(0.5, rel=0.1)
    assert trunk.pos_embed.std().item() == pytest.approx(0.02, rel=0.2)
    assert trunk.blocks[0].mlp.fc1.weight.std().item() == pytest.approx(math.sqrt(2 / (32 + 64)), rel=0.1)


def test_boxes_start_at_their_reference(fresh: Sam3Image) -> None:
    last = fresh.transformer.decoder.bbox_embed.layers[-1]
    assert last.weight.abs().sum() == last.bias.abs().sum() == 0
