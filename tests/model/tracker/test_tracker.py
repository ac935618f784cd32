"""The tracker's keys, shapes and properties on a small random network."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam3.config import ModelConfig, tiny
from sam3.model.tracker.memory_bank import FrameMemory, Moment, recall
from sam3.model.tracker.tracker import NO_OBJECT, Tracker, TrackerFeatures

GRID = 8


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    torch.manual_seed(0)
    return Tracker(tiny().tracker_config()).eval()


def frame_features(tracker: Tracker, seed: int = 0) -> TrackerFeatures:
    generator = torch.Generator().manual_seed(seed)
    width = tracker.config.d_model
    pyramid = [torch.randn(1, width, side, side, generator=generator) for side in (4 * GRID, 2 * GRID, GRID)]
    with torch.no_grad():
        return tracker.features(pyramid)


def test_the_full_size_keys_and_shapes_are_the_released_ones(shared: Path):
    with torch.device("meta"):
        full = Tracker(ModelConfig().tracker_config())
    manifest = json.loads((shared / "spec" / "manifest_tracker.json").read_text())["keys"]
    assert {f"tracker.{name}": list(value.shape) for name, value in full.state_dict().items()} == {
        name: entry["shape"] for name, entry in manifest.items()
    }
    assert sum(parameter.numel() for parameter in full.parameters()) == 11_743_362


@torch.no_grad()
def test_objects_of_a_batch_do_not_see_each_other(tracker: Tracker):
    features = frame_features(tracker)
    embedding = tracker.without_memory(features)
    points = torch.tensor([[[10.0, 20.0]], [[70.0, 90.0]], [[100.0, 5.0]]])
    labels = torch.ones(3, 1, dtype=torch.long)
    together = tracker.segment(embedding, features, points=(points, labels), multimask=True)
    assert together.candidates.shape == (3, 3, 4 * GRID, 4 * GRID)
    for row in range(3):
        alone = tracker.segment(
            embedding, features, points=(points[row : row + 1], labels[row : row + 1]), multimask=True
        )
        assert torch.allclose(alone.low_res[0], together.low_res[row], atol=1e-4)
        assert torch.allclose(alone.pointers[0], together.pointers[row], atol=1e-5)


@torch.no_grad()
def test_an_absent_object_has_no_pixels_and_its_own_pointer(tracker: Tracker):
    features = frame_features(tracker)
    bias = tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    before = bias.clone()
    bias.fill_(-100)
    out = tracker.segment(tracker.without_memory(features), features, multimask=False)
    bias.copy_(before)
    assert (out.low_res == NO_OBJECT).all()
    assert torch.equal(out.pointers, tracker.no_obj_ptr)


@torch.no_grad()
def test_a_given_mask_is_the_answer(tracker: Tracker):
    side = tracker.config.memory_mask_size
    masks = torch.zeros(3, 1, side, side)
    masks[0, :, 32:96, 32:96] = 1
    masks[1, :, 5, 5] = 1
    out = tracker.use_mask(masks, frame_features(tracker))
    assert out.object_score_logits.flatten().tolist() == [10, 10, -10]
    assert torch.equal(out.pointers[2], tracker.no_obj_ptr[0])
    inside = out.low_res[0, 0] > 0
    assert inside[10:22, 10:22].all()
    assert not inside[:6].any()
    assert not (out.low_res[2] > 0).any()


@torch.no_grad()
def test_memory_changes_the_frame_and_order_in_the_batch_does_not_matter(tracker: Tracker):
    features = frame_features(tracker)
    masks = torch.randn(2, 1, tracker.config.image_size, tracker.config.image_size)
    scores = torch.tensor([[5.0], [-5.0]])
    maps = tracker.remember(features, masks, scores, is_prompted=True)
    assert maps.shape == (2, tracker.config.memory_dim, GRID, GRID)
    pointers = torch.randn(2, tracker.config.d_model)
    memories = {0: FrameMemory(maps, masks, pointers, scores)}
    remembered = recall(Moment(1, 5), memories, {}, tracker.config)
    assert (len(remembered.maps), len(remembered.pointers)) == (1, 1)
    now = frame_features(tracker, seed=1)
    embedding = tracker.with_memory(now, remembered, 2)
    assert embedding.shape == (2, tracker.config.d_model, GRID, GRID)
    assert not torch.allclose(embedding[0], embedding[1])
    swapped = {0: FrameMemory(maps.flip(0), masks.flip(0), pointers.flip(0), scores.flip(0))}
    again = tracker.with_memory(now, recall(Moment(1, 5), swapped, {}, tracker.config), 2)
    assert torch.allclose(again.flip(0), embedding, atol=1e-5)


@torch.no_grad()
def test_without_memories_the_frame_stands_alone(tracker: Tracker):
    features = frame_features(tracker)
    nothing = recall(Moment(0, 5), {}, {}, tracker.config)
    assert torch.equal(
        tracker.with_memory(features, nothing, 2), tracker.without_memory(features).expand(2, -1, -1, -1)
    )


def test_any_resolution_works(tracker: Tracker):
    config = replace(tiny().with_resolution(168).tracker_config())
    larger = Tracker(config).eval()
    larger.load_state_dict(tracker.state_dict())
    pyramid = [torch.randn(1, config.d_model, side, side) for side in (48, 24, 12)]
    with torch.no_grad():
        features = larger.features(pyramid)
        out = larger.segment(larger.without_memory(features), features, multimask=True)
        maps = larger.remember(features, torch.randn(1, 1, 168, 168), torch.ones(1, 1), is_prompted=False)
    assert out.low_res.shape == (1, 1, 48, 48)
    assert maps.shape == (1, config.memory_dim, 12, 12)


def test_gradients_reach_every_part(tracker: Tracker):
    features = tracker.features([torch.randn(1, 32, side, side) for side in (32, 16, 8)])
    masks = torch.randn(2, 1, 112, 112)
    maps = tracker.remember(features, masks, torch.tensor([[1.0], [-1.0]]), is_prompted=False)
    memories = {0: FrameMemory(maps, masks, torch.randn(2, 32), torch.ones(2, 1))}
    embedding = tracker.with_memory(features, recall(Moment(1, 3), memories, {}, tracker.config), 2)
    points = torch.rand(2, 2, 2) * 112, torch.tensor([[1, 0], [2, 3]])
    out = tracker.segment(embedding, features, points=points, masks=torch.randn(2, 1, 32, 32), multimask=True)
    total = out.candidates.sigmoid().sum() + out.ious.sum() + out.pointers.sum() + out.object_score_logits.sum()
    total.backward()
    without = {name for name, parameter in tracker.named_parameters() if parameter.grad is None}
    assert without <= {
        "no_mem_embed",
        "no_mem_pos_enc",
        "mask_downsample.weight",
        "mask_downsample.bias",
        "sam_prompt_encoder.no_mask_embed.weight",
    }
