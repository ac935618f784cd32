"""Maps of the frozen trunk on disk: the same bits, void when anything they depend on changes."""

import pytest
import torch

from sam3.io.feature_store import FeatureStore
from sam3.model.vision.trunk_cache import TrunkCache
from tests.small_checkpoint import small_model


@pytest.fixture
def vision():
    vision = small_model().backbone.vision_backbone
    vision.trunk.requires_grad_(False)
    return vision


@pytest.fixture
def runs(vision):
    seen = []
    vision.trunk.register_forward_hook(lambda _m, given, _out: seen.append(len(given[0])))
    return seen


@pytest.fixture
def images():
    return torch.randn(3, 3, 70, 70, generator=torch.Generator().manual_seed(0))


def test_the_map_from_the_cache_is_the_computed_one(vision, runs, images, tmp_path):
    plain = vision(images)
    vision.trunk_cache = TrunkCache(FeatureStore(tmp_path, 10**8))
    filled = vision(images)
    assert runs == [1] * 6
    vision.trunk_cache = TrunkCache(FeatureStore(tmp_path, 10**8))
    cached = vision(images[[2, 0]])
    assert runs == [1] * 6  # none more
    for one, two, three in zip(plain.pyramid, filled.pyramid, cached.pyramid, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one[[2, 0]], three)
        assert one.stride() == two.stride()


def test_the_pyramid_may_learn_while_the_trunk_does_not(vision, images, tmp_path):
    vision.trunk_cache = TrunkCache(FeatureStore(tmp_path, 10**8))
    vision(images).pyramid[0].sum().backward()
    assert vision.convs[0].conv_3x3.weight.grad.any()


def test_other_weights_precision_or_pixels_are_other_entries(vision, runs, images, tmp_path):
    vision.trunk_cache = TrunkCache(FeatureStore(tmp_path, 10**8))
    before = vision(images[:1]).pyramid[-1]
    with torch.autocast("cpu", torch.bfloat16):
        vision(images[:1])
    vision(images[:1] + 1e-6)
    with torch.no_grad():
        vision.trunk.ln_pre.bias.add_(0.5)
    after = vision(images[:1]).pyramid[-1]
    assert len(runs) == 4
    assert not torch.equal(before, after)
    with torch.no_grad():
        vision.trunk.ln_pre.bias.sub_(0.5)
    assert torch.equal(vision(images[:1]).pyramid[-1], before)
    assert len(runs) == 4  # the old weights are known by their values


def test_a_learning_trunk_asks_nothing_of_the_cache(vision, runs, images, tmp_path):
    vision.trunk.requires_grad_(True)
    vision.trunk_cache = TrunkCache(FeatureStore(tmp_path, 10**8))
    vision(images)
    assert runs == [3]
    assert list(tmp_path.iterdir()) == []
