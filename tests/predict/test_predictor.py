"""One picture, many phrases: one image encoding, the same objects as one phrase at a time."""

import numpy as np
import pytest
import torch
from PIL import Image

from sam3.model.sam3_image_processor import Sam3Processor
from sam3.predict import predictor as predictor_module
from sam3.predict.predictor import ImagePredictor
from tests.small_checkpoint import RESOLUTION, small_model

PHRASES = ("red circle", "blue square", "dog")


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 255, (60, 90, 3), np.uint8))


def predictor(model, phrases=PHRASES, **settings) -> ImagePredictor:
    values = {"resolution": RESOLUTION, "mean": (0.5,) * 3, "std": (0.5,) * 3, "score_threshold": 0.001}
    return ImagePredictor(model, dict(zip(phrases, phrases, strict=True)), **(values | settings))


def test_many_phrases_are_found_in_one_backbone_pass(model, picture, monkeypatch):
    calls = []
    encode_image, encode_text = model.encode_image, model.encode_text
    monkeypatch.setattr(model, "encode_image", lambda images: calls.append("image") or encode_image(images))
    monkeypatch.setattr(model, "encode_text", lambda phrases: calls.append("text") or encode_text(phrases))
    find = predictor(model)
    together = find(picture)
    find(picture)
    assert calls == ["text", "image", "image"]  # phrases are encoded once for all images

    alone = [found for phrase in PHRASES for found in predictor(model, (phrase,))(picture)]
    assert [found.label for found in together] == [found.label for found in alone]
    np.testing.assert_allclose([f.score for f in together], [f.score for f in alone], rtol=1e-4)
    np.testing.assert_allclose([f.box for f in together], [f.box for f in alone], atol=0.01)


def test_objects_agree_with_the_processor(model, picture):
    found = predictor(model, ("red circle",))(picture)
    processor = Sam3Processor(model, confidence_threshold=0.001)
    state = processor.set_text_prompt("red circle", processor.set_image(picture))
    assert len(found) == len(state["scores"]) > 0
    order = state["scores"].argsort(descending=True, stable=True)
    np.testing.assert_allclose([f.score for f in found], state["scores"][order], rtol=1e-5)
    np.testing.assert_allclose([f.box for f in found], state["boxes"][order], rtol=1e-4, atol=1e-3)
    for one, mask in zip(found, state["masks"][order, 0].numpy(), strict=True):
        assert one.mask().shape == (60, 90)
        assert (one.mask() == mask).mean() > 0.999


def test_more_phrases_than_fit_in_one_pass(model, picture, monkeypatch):
    expected = predictor(model)(picture)
    monkeypatch.setattr(predictor_module, "PROMPTS_PER_PASS", 2)
    assert [found.label for found in predictor(model)(picture)] == [found.label for found in expected]


@pytest.mark.parametrize("limit", [-1, 2])
def test_masks_of_large_images_come_a_few_at_a_time(model, picture, monkeypatch, limit):
    expected = predictor(model, max_detections=limit)(picture)
    monkeypatch.setattr(predictor_module, "MASK_BYTES", 2 * 60 * 90)
    counts = []
    complete = predictor_module.detections
    monkeypatch.setattr(
        predictor_module,
        "detections",
        lambda output, **given: counts.append(output.scores.numel()) or complete(output, **given),
    )
    assert predictor(model, max_detections=limit)(picture) == expected
    assert set(counts) == {2}


def test_thresholds_and_limits(model, picture):
    everything = predictor(model)(picture)
    assert predictor(model, score_threshold=0.999)(picture) == []
    best = predictor(model, max_detections=1)(picture)
    assert [found.label for found in best] == list(PHRASES)
    assert best[0].score == max(found.score for found in everything if found.label == PHRASES[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_run(picture, dtype):
    expected = predictor(small_model())(picture)
    found = predictor(small_model().to(dtype))(picture)
    assert len(found) == len(expected)
    np.testing.assert_allclose(sorted(f.score for f in found), sorted(f.score for f in expected), atol=0.02)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (300, 2)])
def test_odd_pictures(model, size):
    for found in predictor(model)(Image.new("RGB", size)):
        assert found.mask().shape == size[::-1]


def test_a_model_without_masks_gives_boxes(picture):
    model = small_model()
    model.segmentation_head = None
    found = predictor(model)(picture)
    assert found
    assert all(one.segmentation is None for one in found)
