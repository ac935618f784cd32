from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sam3.config import ModelConfig
from sam3.errors import DataError
from sam3.model.detector.detector import Sam3Image
from sam3.model.layers.layer_list import set_activation_checkpointing
from sam3.structures import DetectorOutput, GeometricPrompt

IMAGES, PHRASES = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])


def detect(
    model: Sam3Image, images: Tensor, token_ids: Tensor, prompt: GeometricPrompt | None = None
) -> DetectorOutput:
    image, text = model.encode_image(images), model.encode_tokens(token_ids)
    return model.ground(image, text, image_index=IMAGES, phrase_index=PHRASES, prompt=prompt)


def objective(output: DetectorOutput) -> Tensor:
    """Touches everything a loss reads."""
    layers = [output.one_to_one, output.one_to_many, *output.aux_one_to_one, *output.aux_one_to_many]
    parts = [output.semantic_logits.square().mean()]
    for layer in layers:
        parts += [layer.logits.mean(), layer.boxes.square().mean(), layer.boxes_xyxy.mean()]
        parts += [x.square().mean() for x in (layer.presence_logits, layer.masks) if x is not None]
    return sum(parts)


@torch.no_grad()
def test_evaluation_output(model: Sam3Image, images: Tensor, token_ids: Tensor, prompt: GeometricPrompt) -> None:
    output = detect(model, images, token_ids, prompt)
    assert output.one_to_many is None
    assert output.aux_one_to_one == []
    shapes = {name: tuple(value.shape) for name, value in output.to_dict().items() if isinstance(value, Tensor)}
    assert shapes == {
        "pred_logits": (3, 5, 1),
        "pred_boxes": (3, 5, 4),
        "pred_boxes_xyxy": (3, 5, 4),
        "pred_masks": (3, 5, 16, 16),
        "presence_logit_dec": (3, 1),
        "queries": (3, 5, 32),
        "semantic_seg": (3, 1, 16, 16),
        "encoder_hidden_states": (3, 16, 32),
        "presence_feats": (3, 1, 32),
    }
    expected = output.one_to_one.logits[..., 0].sigmoid() * output.one_to_one.presence_logits.sigmoid()
    torch.testing.assert_close(output.scores, expected)


@torch.no_grad()
def test_a_batch_equals_its_prompts_one_by_one(
    model: Sam3Image, images: Tensor, token_ids: Tensor, prompt: GeometricPrompt
) -> None:
    together = detect(model, images, token_ids, prompt)
    for index in range(3):
        single = GeometricPrompt(**{name: value[index : index + 1] for name, value in vars(prompt).items()})
        alone = model.ground(
            model.encode_image(images[IMAGES[index]][None]),
            model.encode_tokens(token_ids[PHRASES[index]][None]),
            image_index=torch.tensor([0]),
            phrase_index=torch.tensor([0]),
            prompt=single,
        )
        for name, value in alone.to_dict().items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(together.to_dict()[name][index : index + 1], value, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_one_image_with_many_phrases(model: Sam3Image, images: Tensor, token_ids: Tensor) -> None:
    image, text = model.encode_image(images[:1]), model.encode_tokens(token_ids)
    index = torch.arange(3)
    together = model.ground(image, text, image_index=torch.zeros_like(index), phrase_index=index)
    for phrase in range(3):
        alone = model.ground(image, text, image_index=index[:1], phrase_index=index[phrase : phrase + 1])
        torch.testing.assert_close(together.scores[phrase], alone.scores[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.one_to_one.masks[phrase], alone.one_to_one.masks[0], rtol=1e-3, atol=1e-4)
    assert (together.scores[0] - together.scores[1]).abs().max() > 1e-3


@torch.no_grad()
def test_without_a_prompt_there_is_no_geometry(model: Sam3Image, images: Tensor, token_ids: Tensor) -> None:
    implicit = detect(model, images, token_ids)
    explicit = detect(model, images, token_ids, GeometricPrompt.empty(3))
    torch.testing.assert_close(implicit.one_to_one.masks, explicit.one_to_one.masks)


@torch.no_grad()
@pytest.mark.parametrize("size", [(28, 28), (70, 42), (112, 56)])
def test_any_multiple_of_the_patch(model: Sam3Image, token_ids: Tensor, size: tuple[int, int]) -> None:
    output = detect(model, torch.randn(2, 3, *size), token_ids)
    assert output.one_to_one.masks.shape == (3, 5, size[0] // 14 * 4, size[1] // 14 * 4)
    assert torch.isfinite(output.one_to_one.masks).all()


@torch.no_grad()
def test_no_prompts(model: Sam3Image, images: Tensor, token_ids: Tensor) -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    image, text = model.encode_image(images), model.encode_tokens(token_ids)
    output = model.ground(image, text, image_index=nothing, phrase_index=nothing)
    assert output.one_to_one.masks.shape == (0, 5, 16, 16)
    assert output.scores.shape == (0, 5)


def test_lengths_must_agree(model: Sam3Image, images: Tensor, token_ids: Tensor) -> None:
    image, text = model.encode_image(images), model.encode_tokens(token_ids)
    with pytest.raises(DataError, match="3 prompts, phrase_index 2"):
        model.ground(image, text, image_index=IMAGES, phrase_index=PHRASES[:2])


def test_training_output_and_gradients(
    model: Sam3Image, images: Tensor, token_ids: Tensor, prompt: GeometricPrompt
) -> None:
    output = detect(model.train(), images, token_ids, prompt)
    assert len(output.aux_one_to_one) == len(output.aux_one_to_many) == 1
    assert output.one_to_many.masks.shape == output.one_to_one.masks.shape == (3, 5, 16, 16)
    assert output.queries.shape == (3, 5, 32)
    objective(output).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    unused = ("text_projection", "convs.3.", "pixel_decoder.conv_layers.2.", "pixel_decoder.norms.2.")
    assert all(any(part in name for part in unused) for name in without)
    assert len(without) == 9


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights(
    model: Sam3Image, images: Tensor, token_ids: Tensor, prompt: GeometricPrompt, dtype: torch.dtype, training: bool
) -> None:
    with torch.no_grad():
        full = detect(model, images, token_ids, prompt)
        half = detect(model.to(dtype).train(training), images, token_ids, prompt)
    assert half.one_to_one.masks.dtype == dtype
    assert half.one_to_one.boxes.dtype == torch.float32
    assert torch.isfinite(half.one_to_one.masks).all()
    if not training:
        torch.testing.assert_close(half.scores.float(), full.scores, rtol=0, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(
    model: Sam3Image, images: Tensor, token_ids: Tensor, prompt: GeometricPrompt, dtype: torch.dtype
) -> None:
    with torch.no_grad():
        full = detect(model, images, token_ids, prompt)
        with torch.autocast("cpu", dtype):
            half = detect(model, images, token_ids, prompt)
    torch.testing.assert_close(half.scores.float(), full.scores, rtol=0, atol=0.1)
    with torch.autocast("cpu", dtype):
        loss = objective(detect(model.train(), images, token_ids, prompt))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_inference_mode_does_not_spoil_later_training(model: Sam3Image, token_ids: Tensor) -> None:
    images = torch.randn(2, 3, 84, 98)  # a grid no other test has put into the caches
    with torch.inference_mode():
        detect(model, images, token_ids)
    objective(detect(model.train(), images, token_ids)).backward()


def test_activation_checkpointing_changes_no_gradient(
    model: Sam3Image, images: Tensor, token_ids: Tensor, prompt: GeometricPrompt
) -> None:
    gradients = []
    for enabled in (False, True):
        set_activation_checkpointing(model, enabled)
        model.zero_grad()
        torch.manual_seed(3)  # the same dropout
        objective(detect(model.train(), images, token_ids, prompt)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


@torch.no_grad()
def test_without_segmentation(config: ModelConfig, images: Tensor, token_ids: Tensor) -> None:
    model = Sam3Image(replace(config, enable_segmentation=False)).eval()
    output = detect(model, images, token_ids)
    assert output.one_to_one.masks is None
    assert output.semantic_logits is None
    assert not any(name.startswith("segmentation_head") for name in model.state_dict())


@torch.no_grad()
def test_second_pyramid(config: ModelConfig, images: Tensor) -> None:
    model = Sam3Image(replace(config, neck=replace(config.neck, second_neck=True))).eval()
    features = model.encode_image(images)
    assert [x.shape for x in features.second_pyramid] == [x.shape for x in features.pyramid]
    assert not torch.allclose(features.second_pyramid[0], features.pyramid[0])


def test_phrases_are_tokenized_on_first_use(config: ModelConfig) -> None:
    model = Sam3Image(replace(config, text=replace(config.text, vocab_size=49408, context_length=32))).eval()
    assert model._tokenizer is None
    text = model.encode_text(["red circle", "blue square"])
    assert text.features.shape == (2, 32, 32)
    assert (~text.mask).sum(1).tolist() == [4, 4]


def test_the_tokenizer_has_the_context_of_the_text_encoder(config: ModelConfig) -> None:
    model = Sam3Image(replace(config, text=replace(config.text, vocab_size=49408, context_length=9))).eval()
    assert model.tokenizer(["red circle"]).shape == (1, 9)
    assert model.encode_tokens(model.tokenizer(["one " * 20])).features.shape[:2] == (1, 9)
