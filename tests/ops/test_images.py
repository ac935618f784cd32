"""From pixels to network input."""

import numpy as np
import pytest
import torch
from PIL import Image

from sam3.ops.images import normalize, preprocess, resize_square_uint8

HALF = (0.5, 0.5, 0.5)


def test_reference_preprocessing(shared) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    folder = shared / "golden" / "detector"
    image = safetensors.load_file(folder / "case7_processor_inputs.safetensors")["image_u8_chw"]
    expected = safetensors.load_file(folder / "case7_processor_expected.safetensors")["preprocessed"][0]
    found = preprocess(image.permute(1, 2, 0).numpy(), expected.shape[-1], HALF, HALF)
    assert (found - expected).abs().max() <= 2e-7  # rounding of the last float step; a grey level is 8e-3


def test_picture_and_array_agree() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (13, 29, 3), dtype=np.uint8)
    assert torch.equal(preprocess(pixels, 42, HALF, HALF), preprocess(Image.fromarray(pixels), 42, HALF, HALF))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (500, 3)])
def test_extreme_shapes_become_square(size: tuple[int, int]) -> None:
    out = resize_square_uint8(torch.full((3, *size), 7, dtype=torch.uint8), 14)
    assert out.shape == (3, 14, 14)
    assert out.dtype == torch.uint8
    assert (out == 7).all()


def test_resize_is_close_to_an_independent_one() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (61, 47, 3), dtype=np.uint8)
    ours = resize_square_uint8(torch.from_numpy(pixels).permute(2, 0, 1), 28).permute(1, 2, 0).numpy()
    pillow = np.asarray(Image.fromarray(pixels).resize((28, 28), Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - pillow).max() <= 1


def test_normalize_range() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None].expand(3, 2, 2)
    values = normalize(image, HALF, HALF)
    assert torch.allclose(values[:, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
    white = torch.full((3, 1, 1), 255, dtype=torch.uint8)
    by_channel = normalize(white, (0.4, 0.5, 0.75), (0.2, 0.25, 0.5)).flatten()
    assert torch.allclose(by_channel, torch.tensor([3.0, 2.0, 0.5]))
