"""Phrases under a frozen text encoder."""

import pytest
import torch

from sam3.model.text.phrase_cache import PhraseCache
from tests.small_checkpoint import small_model


@pytest.fixture
def model():
    model = small_model().train()
    model.backbone.language_backbone.requires_grad_(False)
    return model


@pytest.fixture
def calls(model):
    seen = []
    model.backbone.language_backbone.register_forward_hook(lambda _m, given, _out: seen.append(given[0].shape[0]))
    return seen


def test_a_phrase_is_encoded_once_and_alone(model, calls):
    first = model.encode_text(["red circle", "bolt"])
    second = model.encode_text(["bolt", "nut", "red circle"])
    assert calls == [1, 1, 1]
    assert torch.equal(first.features[1], second.features[0])
    assert torch.equal(first.mask[0], second.mask[2])
    assert not second.features.requires_grad
    model.backbone.language_backbone.requires_grad_(True)
    plain = model.encode_text(["bolt", "nut", "red circle"])
    torch.testing.assert_close(second.features, plain.features, rtol=0, atol=1e-6)
    assert plain.features.requires_grad


def test_changed_weights_and_autocast_void_what_is_known(model, calls):
    before = model.encode_text(["bolt"]).features
    with torch.no_grad():
        model.backbone.language_backbone.resizer.bias.add_(1.0)
    after = model.encode_text(["bolt"]).features
    torch.testing.assert_close(after, before + 1, rtol=0, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.encode_text(["bolt"]).features.dtype == torch.bfloat16
    with torch.inference_mode():
        model.encode_text(["bolt"])
    assert not model.encode_text(["bolt"]).features.is_inference()
    assert len(calls) == 5


def test_a_learning_encoder_is_never_remembered(calls, model):
    model.backbone.language_backbone.requires_grad_(True)
    model.encode_text(["bolt", "nut"])
    model.encode_text(["bolt"])
    assert calls == [2, 1]


def test_the_phrases_used_last_are_kept(model, calls):
    cache, tower = PhraseCache(limit=2), model.backbone.language_backbone
    for phrases in (["a", "b"], ["a", "c"], ["a"], ["b"]):
        cache.encode(tower, model.tokenizer, phrases)
    assert len(cache) == 2
    assert len(calls) == 4  # a, b, c, and b again
