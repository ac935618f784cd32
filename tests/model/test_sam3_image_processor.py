"""The processor: every kind of picture, every order of calls, on the small golden network."""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sam3.config import NeckConfig
from sam3.errors import DataError, UserError
from sam3.io.model_card import ModelCard
from sam3.model import sam3_image_processor
from sam3.model.detector.detector import Sam3Image
from sam3.model.sam3_image_processor import Sam3Processor
from tests.parity import detector as parity
from tests.small_checkpoint import small_config

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 84, 3), dtype=np.uint8)
OTHER = RNG.integers(0, 256, (33, 50, 3), dtype=np.uint8)
BOX, FAR_BOX = [0.4, 0.5, 0.3, 0.6], [0.8, 0.2, 0.2, 0.2]
RESULTS = ("boxes", "scores", "masks", "masks_logits")


def golden_model(repository: Path) -> Sam3Image:
    folder = repository / "tests" / "golden" / "detector"
    model = parity.build(folder, parity.read_config(folder))
    model._tokenizer = stand_in_tokenizer(model.config.text.vocab_size)
    return model


def stand_in_tokenizer(vocab_size: int) -> Callable[[Sequence[str], int], Tensor]:
    """Ids within the few tokens of the golden network, different for the phrases used here."""
    start, end, words = vocab_size - 2, vocab_size - 1, vocab_size - 3

    def tokenize(texts: Sequence[str], length: int) -> Tensor:
        rows = [[start, *(1 + sum(word.encode()) % words for word in text.split()), end] for text in texts]
        return torch.tensor([(row + [0] * length)[:length] for row in rows])

    return tokenize


@pytest.fixture(scope="module")
def model(repository: Path) -> Sam3Image:
    return golden_model(repository)


@pytest.fixture
def processor(model: Sam3Image) -> Sam3Processor:
    """Reports every query, so that results can be compared one by one."""
    return Sam3Processor(model, confidence_threshold=0.0)


def same(first: dict, second: dict) -> bool:
    """Bit by bit, and not empty."""
    return len(first["scores"]) > 0 and all(torch.equal(first[name], second[name]) for name in RESULTS)


def close(first: dict, second: dict) -> bool:
    """Up to the rounding of other batch sizes; masks count where they are clear of the threshold."""
    clear = (second["masks_logits"] - 0.5).abs() > 1e-3
    return (
        len(first["scores"]) == len(second["scores"]) > 0
        and torch.allclose(first["boxes"], second["boxes"], rtol=0, atol=1e-2)  # pixels
        and torch.allclose(first["scores"], second["scores"], rtol=0, atol=1e-4)
        and torch.allclose(first["masks_logits"], second["masks_logits"], rtol=0, atol=1e-3)
        and torch.equal(first["masks"][clear], second["masks"][clear])
    )


def of_number(state: dict, *numbers: int) -> dict:
    """Results of one image or phrase, or of one phrase of one image."""
    results = {name: state[name] for name in RESULTS}
    for number in numbers:
        results = {name: values[number] for name, values in results.items()}
    return results


def picture_with_exif(pixels: np.ndarray, orientation: int) -> Image.Image:
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return image


def test_reference_steps(repository: Path) -> None:
    folder = repository / "tests" / "golden" / "detector"
    rows = parity._check_processor(folder, parity.build(folder, parity.read_config(folder)))
    assert {row.quantity.split(".")[0] for row in rows} >= {
        f"case7_processor: step{n}" for n in ("1_text", "2_pos_box")
    }
    assert [row for row in rows if not row.ok] == []


def test_state_has_the_published_entries(processor: Sam3Processor) -> None:
    state = processor.set_image(Image.fromarray(PIXELS))
    assert (state["original_height"], state["original_width"]) == (60, 84)
    features = state["backbone_out"]
    assert [tuple(level.shape) for level in features["backbone_fpn"]] == [(1, 32, side, side) for side in (32, 16, 8)]
    assert features["vision_features"] is features["backbone_fpn"][-1]
    assert len(features["vision_pos_enc"]) == 3
    assert features["sam2_backbone_out"] is None
    output = processor.set_text_prompt(state=state, prompt="a red car")
    assert output is state
    assert features["language_features"].shape == (32, 1, 32)
    assert features["language_mask"].shape == (1, 32)
    assert features["language_embeds"].shape == (32, 1, 64)
    count = len(state["scores"])
    assert count == 12
    assert state["boxes"].shape == (count, 4)
    assert state["masks"].shape == state["masks_logits"].shape == (count, 1, 60, 84)
    assert state["masks"].dtype == torch.bool
    assert torch.equal(state["masks"], state["masks_logits"] > 0.5)


def test_second_neck_is_passed_on() -> None:
    processor = Sam3Processor(Sam3Image(replace(small_config(), neck=NeckConfig(second_neck=True))).eval())
    second = processor.set_image(PIXELS)["backbone_out"]["sam2_backbone_out"]
    assert second.keys() == {"vision_features", "vision_pos_enc", "backbone_fpn"}
    assert second["vision_features"].shape == (1, 32, 4, 4)


def test_keyword_and_positional_calls_agree(processor: Sam3Processor) -> None:
    first = processor.set_text_prompt("red car", processor.set_image(PIXELS))
    second = processor.set_text_prompt(state=processor.set_image(image=PIXELS), prompt="red car")
    assert same(first, second)
    first = processor.add_geometric_prompt(BOX, True, first)
    assert same(first, processor.add_geometric_prompt(box=BOX, label=True, state=second))


RGB = Image.fromarray(PIXELS)
KINDS = {
    "array HWC": PIXELS,
    "array CHW": PIXELS.transpose(2, 0, 1),
    "float array": PIXELS / 255,
    "tensor CHW": torch.from_numpy(PIXELS).permute(2, 0, 1),
    "float tensor": torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
    "RGBA": np.dstack([PIXELS, PIXELS[:, :, 0]]),
    "RGBA picture": Image.fromarray(np.dstack([PIXELS, PIXELS[:, :, 0]])),
    "turned by EXIF": picture_with_exif(np.rot90(PIXELS), 6),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_gives_the_same_objects(kind: str, processor: Sam3Processor) -> None:
    expected = processor.set_text_prompt("red car", processor.set_image(RGB))
    found = processor.set_text_prompt("red car", processor.set_image(KINDS[kind]))
    assert (found["original_height"], found["original_width"]) == (60, 84)
    assert same(found, expected)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "I;16"])
def test_grey_and_palette_pictures_equal_their_rgb_form(mode: str, processor: Sam3Processor) -> None:
    if mode == "I;16":
        picture, as_rgb = Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257), Image.fromarray(PIXELS[:, :, 0])
    else:
        picture = as_rgb = RGB.convert(mode)
    expected = processor.set_text_prompt("red car", processor.set_image(as_rgb.convert("RGB")))
    assert same(processor.set_text_prompt("red car", processor.set_image(picture)), expected)


def test_a_new_image_drops_everything_of_the_old_one(processor: Sam3Processor) -> None:
    state = processor.set_image(PIXELS)
    processor.set_text_prompt("red car", state)
    processor.add_geometric_prompt(BOX, True, state)
    state["my own note"] = 1
    assert processor.set_image(OTHER, state) is state
    assert state.keys() == {"original_height", "original_width", "backbone_out", "my own note"}
    assert "language_features" not in state["backbone_out"]
    fresh = processor.set_text_prompt("red car", processor.set_image(OTHER))
    assert same(processor.set_text_prompt("red car", state), fresh)
    processor.set_image_batch([PIXELS], state)
    assert state.keys() == {"original_heights", "original_widths", "backbone_out", "my own note"}


def test_a_new_text_replaces_the_old_one_and_keeps_boxes(processor: Sam3Processor) -> None:
    state = processor.add_geometric_prompt(BOX, True, processor.set_text_prompt("red car", processor.set_image(PIXELS)))
    processor.set_text_prompt("blue square", state)
    other = processor.set_text_prompt("blue square", processor.set_image(PIXELS))
    assert not close(state, other)
    assert same(processor.add_geometric_prompt(BOX, True, other), state)


def test_boxes_alone_search_for_visual(processor: Sam3Processor) -> None:
    alone = processor.add_geometric_prompt(BOX, True, processor.set_image(PIXELS))
    spelled = processor.set_text_prompt("visual", processor.set_image(PIXELS))
    assert same(alone, processor.add_geometric_prompt(BOX, True, spelled))
    assert alone["text_prompt"] == "visual"


def test_labels_matter_and_may_be_numbers(processor: Sam3Processor) -> None:
    results = {}
    for label in (True, False, 1, 0):
        state = processor.set_text_prompt("red car", processor.set_image(PIXELS))
        state = processor.add_geometric_prompt(BOX, label, state)
        results[str(label)] = processor.add_geometric_prompt(torch.tensor(FAR_BOX), True, state)
    assert same(results["True"], results["1"])
    assert same(results["False"], results["0"])
    assert not close(results["True"], results["False"])


def test_reset_keeps_the_image(processor: Sam3Processor) -> None:
    state = processor.set_text_prompt("red car", processor.set_image(PIXELS))
    expected = dict(state)
    processor.add_geometric_prompt(BOX, False, state)
    assert processor.reset_all_prompts(state) is None
    assert state.keys() == {"original_height", "original_width", "backbone_out"}
    assert not any(name.startswith("language") for name in state["backbone_out"])
    assert same(processor.set_text_prompt("red car", state), expected)
    processor.reset_all_prompts({})


def test_threshold_reruns_only_states_with_results(processor: Sam3Processor) -> None:
    state = processor.set_image(PIXELS)
    assert processor.set_confidence_threshold(0.9, state).keys() == {
        "original_height",
        "original_width",
        "backbone_out",
    }
    assert processor.set_confidence_threshold(0.0) is None
    many = dict(processor.set_text_prompt("red car", state))
    middle = many["scores"].median().item()
    processor.set_confidence_threshold(middle, state)
    kept = many["scores"] > middle
    assert 0 < kept.sum() < len(kept)
    assert all(torch.equal(state[name], many[name][kept]) for name in RESULTS)
    processor.set_confidence_threshold(1.0, state)
    assert state["boxes"].shape == (0, 4)
    assert state["masks"].shape == state["masks_logits"].shape == (0, 1, 60, 84)


def test_several_phrases_equal_single_calls(processor: Sam3Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    phrases = ["red car", "blue square", "a big green thing", "red car"]
    encoded = []
    encode_image = processor.model.encode_image
    monkeypatch.setattr(processor.model, "encode_image", lambda x: (encoded.append(len(x)), encode_image(x))[1])
    state = processor.set_text_prompts(phrases, processor.set_image(PIXELS))
    assert encoded == [1]
    assert [len(state[name]) for name in RESULTS] == [4] * 4
    for number, phrase in enumerate(phrases):
        alone = processor.set_text_prompt(phrase, processor.set_image(PIXELS))
        assert close(of_number(state, number), alone)
    assert isinstance(processor.set_text_prompts(["red car"], state)["boxes"], list)
    assert isinstance(processor.set_text_prompt("red car", state)["boxes"], Tensor)


def test_example_boxes_go_with_every_phrase(processor: Sam3Processor) -> None:
    state = processor.set_text_prompts(["red car", "blue square"], processor.set_image(PIXELS))
    processor.add_geometric_prompt(BOX, True, state)
    alone = processor.set_text_prompt("blue square", processor.set_image(PIXELS))
    alone = processor.add_geometric_prompt(BOX, True, alone)
    assert close(of_number(state, 1), alone)


def test_batch_equals_single_images(processor: Sam3Processor) -> None:
    state = processor.set_image_batch([PIXELS, Image.fromarray(OTHER)])
    assert (state["original_heights"], state["original_widths"]) == ([60, 33], [84, 50])
    processor.set_text_prompt("red car", state)
    singles = [processor.set_text_prompt("red car", processor.set_image(image)) for image in (PIXELS, OTHER)]
    for number, single in enumerate(singles):
        assert close(of_number(state, number), single)
    assert state["masks"][1].shape[1:] == (1, 33, 50)
    processor.set_confidence_threshold(1.0, state)
    assert [len(boxes) for boxes in state["boxes"]] == [0, 0]


@pytest.mark.parametrize("per_pass", [1, 4, 16])
def test_images_times_phrases(per_pass: int, processor: Sam3Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam3_image_processor, "PROMPTS_PER_PASS", per_pass)
    phrases = ["red car", "blue square", "green thing"]
    state = processor.set_text_prompts(phrases, processor.set_image_batch([PIXELS, OTHER]))
    for row, image in enumerate((PIXELS, OTHER)):
        for column, phrase in enumerate(phrases):
            single = processor.set_text_prompt(phrase, processor.set_image(image))
            assert close(of_number(state, row, column), single)
    assert not close(of_number(state, 0, 0), of_number(state, 0, 1))


def test_large_probabilities_are_left_out(model: Sam3Image, caplog: pytest.LogCaptureFixture) -> None:
    usual = Sam3Processor(model, confidence_threshold=0.0)
    expected = usual.set_text_prompt("red car", usual.set_image(PIXELS))
    frugal = Sam3Processor(model, confidence_threshold=0.0, max_probability_bytes=0)
    with caplog.at_level(logging.INFO):
        state = frugal.set_text_prompt("red car", frugal.set_image(PIXELS))
    assert state["masks_logits"] is None
    assert torch.equal(state["masks"], expected["masks"])
    assert "masks_logits left out" in caplog.text


def test_without_segmentation_head(processor: Sam3Processor) -> None:
    expected = processor.set_text_prompt("red car", processor.set_image(PIXELS))
    model = copy.deepcopy(processor.model)
    model.segmentation_head = None
    processor = Sam3Processor(model, confidence_threshold=0.0)
    state = processor.set_image(PIXELS)
    processor.set_text_prompt("blue square", state)
    processor.set_text_prompt("red car", state)
    assert state["masks"] is None
    assert state["masks_logits"] is None
    assert torch.equal(state["boxes"], expected["boxes"])


def test_a_model_in_training_mode_is_used_in_evaluation_mode(model: Sam3Image, processor: Sam3Processor) -> None:
    expected = processor.set_text_prompt("red car", processor.set_image(PIXELS))
    model.train()
    try:
        assert same(processor.set_text_prompt("red car", processor.set_image(PIXELS)), expected)
        assert model.training
    finally:
        model.eval()


def test_half_precision_model(repository: Path) -> None:
    processor = Sam3Processor(golden_model(repository).to(torch.bfloat16), confidence_threshold=0.0)
    state = processor.add_geometric_prompt(BOX, True, processor.set_image(PIXELS))
    assert len(state["boxes"]) > 0
    assert state["boxes"].dtype == state["scores"].dtype == state["masks_logits"].dtype == torch.float32


def test_settings_come_from_the_model(model: Sam3Image, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Sam3Processor(model).resolution, Sam3Processor(model).mean) == (112, (0.5, 0.5, 0.5))
    monkeypatch.setattr(model, "card", ModelCard(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)))
    assert (Sam3Processor(model).mean, Sam3Processor(model).std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))


def test_other_resolution_is_rounded_up_with_a_notice(model: Sam3Image, caplog: pytest.LogCaptureFixture) -> None:
    processor = Sam3Processor(model, resolution=60)
    assert processor.resolution == 70
    assert "resolution 60" in caplog.text
    state = processor.set_text_prompt("red car", processor.set_image(PIXELS))
    assert state["backbone_out"]["vision_features"].shape[-2:] == (5, 5)


def test_device_must_be_the_models(model: Sam3Image) -> None:
    assert Sam3Processor(model, device="cpu").device == torch.device("cpu")
    with pytest.raises(UserError, match=r"model is on cpu, .* asked for cuda:1; call model\.to\('cuda:1'\)"):
        Sam3Processor(model, device="cuda:1")
    with pytest.raises(UserError, match="there is no device 'gpu'; the model is on cpu"):
        Sam3Processor(model, device="gpu")


@pytest.mark.parametrize("state", [{}, None, "red car"])
def test_prompts_need_an_image(state: object, processor: Sam3Processor) -> None:
    for call in (
        lambda: processor.set_text_prompt("red car", state),
        lambda: processor.set_text_prompts(["red car"], state),
        lambda: processor.add_geometric_prompt(BOX, True, state),
    ):
        with pytest.raises(UserError, match="call set_image first"):
            call()


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), "0.5", None])
def test_bad_threshold(threshold: object, processor: Sam3Processor) -> None:
    with pytest.raises(UserError, match=r"\[0, 1\]"):
        processor.set_confidence_threshold(threshold)
    with pytest.raises(UserError, match=r"\[0, 1\]"):
        Sam3Processor(processor.model, confidence_threshold=threshold)


@pytest.mark.parametrize(
    "box",
    [
        [0.1, 0.2, 0.3],
        [30, 40, 20, 10],
        [0.1, 0.1, -0.2, 0.1],
        [0.1, 0.1, 0.1, float("nan")],
        [1.5, 0.5, 0.1, 0.1],
        "left",
        None,
    ],
)
def test_bad_boxes(box: object, processor: Sam3Processor) -> None:
    state = processor.set_image(PIXELS)
    with pytest.raises(UserError, match=r"an example box is \(cx, cy, w, h\)"):
        processor.add_geometric_prompt(box, True, state)
    assert "geometric_prompt" not in state
    with pytest.raises(UserError, match="label of a box"):
        processor.add_geometric_prompt(BOX, 2, state)


def test_bad_images_and_batches(processor: Sam3Processor) -> None:
    with pytest.raises(DataError, match="open files first"):
        processor.set_image("picture.png")
    for bad in ([], "picture.png", PIXELS):
        with pytest.raises(UserError, match="list of at least one image"):
            processor.set_image_batch(bad)
    state = processor.set_image_batch([PIXELS, OTHER])
    with pytest.raises(UserError, match="belongs to one image, the state holds 2"):
        processor.add_geometric_prompt(BOX, True, state)
    for bad in ([], "red car", 5, np.array(["red", "car"])):
        with pytest.raises(UserError, match="list of at least one phrase"):
            processor.set_text_prompts(bad, state)


def test_inputs_are_not_changed(processor: Sam3Processor) -> None:
    before = PIXELS.copy()
    processor.set_text_prompt("red car", processor.set_image(PIXELS))
    assert np.array_equal(PIXELS, before)


def test_clicks_need_a_model_built_for_them(processor: Sam3Processor) -> None:
    state = processor.set_image(PIXELS)
    for predict in (processor.model.predict_inst, processor.model.predict_inst_batch):
        with pytest.raises(UserError, match="build it with enable_inst_interactivity=True"):
            predict(state, point_coords=[[3, 4]], point_labels=[1])
