import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sam3.config import ModelConfig, tiny
from sam3.model.detector.detector import Sam3Image
from sam3.model.initialization import initialize_tracker, initialize_weights
from sam3.model.layers.rope import apply_rotary, rotary_table
from sam3.model.tracker.tracker import Tracker, TrackerFeatures


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


@pytest.fixture
def tracker() -> Tracker:
    """Built on storage full of NaN, then initialised; eight cells a side."""
    torch.manual_seed(0)
    tracker = Tracker(replace(tiny().tracker, image_size=112)).eval()
    with torch.no_grad():
        for parameter in tracker.parameters():
            parameter.fill_(math.nan)
    initialize_tracker(tracker)
    return tracker


def test_every_parameter_of_a_tracker_is_set(tracker: Tracker) -> None:
    assert [name for name, p in tracker.named_parameters() if not p.isfinite().all()] == []


def test_a_tracker_without_storage_is_initialised_too() -> None:
    with torch.device("meta"):
        tracker = Tracker(replace(tiny().tracker, image_size=112))
    initialize_tracker(tracker)
    assert all(parameter.is_meta for parameter in tracker.parameters())


@torch.no_grad()
def test_memories_begin_as_place_and_looks(tracker: Tracker) -> None:
    frame, other = torch.randn(2, 1, 32, 8, 8)
    mask = torch.full((1, 1, 112, 112), -20.0)
    mask[..., 28:56, 28:56] = 20.0

    def remember(top: Tensor, mask: Tensor) -> Tensor:
        features = TrackerFeatures(top, (top, top))
        return tracker.remember(features, mask, torch.ones(1, 1), is_prompted=False)

    memory = remember(frame, mask)
    place, looks = memory[:, :2], memory[:, 2:]
    assert torch.allclose(remember(other, mask)[:, :2], place, atol=1e-4)
    assert torch.allclose(remember(frame, -mask)[:, 2:], looks, atol=1e-4)
    assert not torch.allclose(remember(frame, -mask)[:, :2], place, atol=0.5)
    assert not torch.allclose(remember(other, mask)[:, 2:], looks, atol=0.5)


@torch.no_grad()
def test_the_first_layer_looks_at_the_same_place_and_the_second_at_what_is_alike(tracker: Tracker) -> None:
    frame = 2 * torch.randn(1, 32, 8, 8)
    frame[..., 6, 6] = frame[..., 1, 2]  # the same thing at two places
    features = TrackerFeatures(frame, (frame, frame))
    memory = tracker.remember(features, torch.full((1, 1, 112, 112), -20.0), torch.ones(1, 1), is_prompted=False)
    keys = memory.flatten(2).transpose(1, 2)
    queries = F.layer_norm(frame.flatten(2).transpose(1, 2), (32,))
    rotary = rotary_table(8, 8, 32, window=8, theta=tracker.config.rope_theta, device=torch.device("cpu"))
    here, there = 1 * 8 + 2, 6 * 8 + 6
    weights = []
    for layer in tracker.transformer.encoder.layers:
        attention = layer.cross_attn_image
        q, k = (apply_rotary(x, rotary)[0] for x in (attention.q_proj(queries), attention.k_proj(keys)))
        weights.append((q @ k.T / 32**0.5).softmax(1))  # one head
    place, alike = weights
    assert place.argmax(1).tolist() == list(range(64))
    assert place[here, here + 1] == pytest.approx(float(place[here, here]) / 3, rel=0.2)
    assert place[here, there] < 0.01
    assert there in alike[here].topk(3).indices  # among 64 of six channels, others may look a little alike, too
    assert alike[here, there] > 10 * alike[here].median()
