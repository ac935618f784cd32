import math

import pytest
import torch
from torch import Tensor

from sam3.model.detector.decoder import Decoder
from sam3.model.detector.detector import Sam3Image


def inputs() -> tuple[Tensor, Tensor, tuple[int, int], Tensor, Tensor]:
    """Memory, position, grid, prompt and its mask for two prompts."""
    generator = torch.Generator().manual_seed(0)
    memory = torch.randn(2, 12, 32, generator=generator)
    position = torch.randn(1, 12, 32, generator=generator)
    prompt = torch.randn(2, 6, 32, generator=generator)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[1, 3:] = True
    return memory, position, (3, 4), prompt, mask


def test_position_bias_by_hand(model: Sam3Image) -> None:
    decoder: Decoder = model.transformer.decoder
    box = torch.tensor([[[0.5, 0.4, 0.2, 0.3]]])
    bias = decoder.position_bias(box, (3, 4))
    assert bias.shape == (1, 4, 1, 12)

    def distance(value: float) -> float:
        return math.copysign(math.log2(8 * abs(value) + 1) / 3, value)

    row, column = 2, 1
    vertical = torch.tensor([distance(row / 3 - 0.25), distance(row / 3 - 0.55)])
    horizontal = torch.tensor([distance(column / 4 - 0.4), distance(column / 4 - 0.6)])
    expected = decoder.boxRPB_embed_y(vertical) + decoder.boxRPB_embed_x(horizontal)
    torch.testing.assert_close(bias[0, :, 0, row * 4 + column], expected)


def test_the_presence_token_has_no_position_bias(model: Sam3Image) -> None:
    boxes = torch.rand(2, 5, 4)
    decoder = model.transformer.decoder
    padded = decoder.position_bias(boxes, (3, 4), with_presence=True)
    assert (padded[:, :, 0] == 0).all()
    torch.testing.assert_close(padded[:, :, 1:], decoder.position_bias(boxes, (3, 4)))


@torch.no_grad()
def test_the_last_layer_alone_is_the_last_of_all(model: Sam3Image) -> None:
    decoder = model.transformer.decoder
    (last,) = decoder(*inputs(), every_layer=False)
    layers = decoder(*inputs(), every_layer=True)
    assert len(layers) == 2
    torch.testing.assert_close(last.boxes, layers[-1].boxes)
    torch.testing.assert_close(last.presence_logits, layers[-1].presence_logits)
    torch.testing.assert_close(layers[0].boxes, layers[1].references)


@torch.no_grad()
def test_masked_prompt_tokens_do_not_matter(model: Sam3Image) -> None:
    memory, position, grid, prompt, mask = inputs()
    changed = prompt.clone()
    changed[1, 3:] += 5
    before = model.transformer.decoder(memory, position, grid, prompt, mask, every_layer=False)[0]
    after = model.transformer.decoder(memory, position, grid, changed, mask, every_layer=False)[0]
    torch.testing.assert_close(before.queries, after.queries)


@torch.no_grad()
def test_one_to_many_queries_do_not_disturb_the_others(model: Sam3Image) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    decoder = model.transformer.decoder
    plain = decoder(*inputs(), every_layer=True)
    doubled = decoder(*inputs(), every_layer=True, doubled=True)
    assert doubled[-1].boxes.shape == (2, 10, 4)
    for one, two in zip(plain, doubled, strict=True):
        torch.testing.assert_close(one.queries, two.queries[:, :5], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.presence_logits, two.presence_logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(doubled[-1].queries[:, :5], doubled[-1].queries[:, 5:], atol=1e-3)


def test_gradients_reach_the_reference_points_through_every_layer(model: Sam3Image) -> None:
    decoder = model.transformer.decoder
    layers = decoder(*inputs(), every_layer=True)
    layers[0].boxes.sum().backward(retain_graph=True)
    first = decoder.reference_points.weight.grad.clone()
    assert first.abs().sum() > 0
    decoder.zero_grad()
    # The second layer's boxes depend on the first layer's offsets (not cut off) ...
    layers[1].boxes.sum().backward()
    assert decoder.reference_points.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_boxes_stay_float32_in_half_precision(model: Sam3Image, dtype: torch.dtype) -> None:
    memory, position, grid, prompt, mask = inputs()
    decoder = model.transformer.decoder
    full = decoder(memory, position, grid, prompt, mask, every_layer=False)[0]
    decoder.to(dtype)
    half = decoder(memory.to(dtype), position.to(dtype), grid, prompt.to(dtype), mask, every_layer=False)[0]
    assert half.boxes.dtype == torch.float32
    assert half.queries.dtype == dtype
    torch.testing.assert_close(half.boxes, full.boxes, rtol=0, atol=0.05)
