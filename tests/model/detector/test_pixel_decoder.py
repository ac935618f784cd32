import pytest
import torch
import torch.nn.functional as F

from sam3.model.detector.detector import Sam3Image
from sam3.model.detector.pixel_decoder import PixelDecoder, upsampling_kernel


@pytest.fixture
def decoder(model: Sam3Image) -> PixelDecoder:
    return model.segmentation_head.pixel_decoder


def test_kernel_equals_upsampling_and_convolution() -> None:
    x, weight = torch.randn(2, 3, 4, 5), torch.randn(6, 3, 3, 3)
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
    found = F.conv_transpose2d(x, upsampling_kernel(weight), stride=2, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("num_images", [1, 2])
def test_shared_stages_change_nothing(decoder: PixelDecoder, num_images: int) -> None:
    index = torch.tensor([0, 1, 1, 0, 1]) % num_images
    coarsest = torch.randn(5, 32, 2, 3)
    finer = [torch.randn(num_images, 32, 8, 12), torch.randn(num_images, 32, 4, 6)]
    stages = decoder.share((2, 3), finer)
    plain = decoder(coarsest, [level[index] for level in finer])
    torch.testing.assert_close(decoder.forward_shared(coarsest, stages, index), plain, rtol=1e-4, atol=1e-5)


def test_sizes_that_do_not_double_are_not_shared(decoder: PixelDecoder) -> None:
    assert decoder.share((2, 3), [torch.randn(1, 32, 9, 12), torch.randn(1, 32, 4, 6)]) is None
    assert decoder(torch.randn(2, 32, 2, 3), [torch.randn(1, 32, 9, 12)]).shape == (2, 32, 9, 12)
