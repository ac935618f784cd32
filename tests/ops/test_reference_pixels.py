import numpy as np
import pytest
import torch
from PIL import Image

from sam3.ops.reference_pixels import LOADERS, reference_pixels


@pytest.mark.parametrize("loader", LOADERS)
def test_one_grey_keeps_its_level_in_every_loader(loader: str):
    picture = Image.fromarray(np.full((9, 13, 3), 51, np.uint8))  # a fifth of white
    found = reference_pixels(picture, 4, loader)
    assert found.shape == (3, 4, 4)
    assert found.dtype == (torch.float32 if loader.startswith("cv2") else torch.float16)
    expected = 101.0 if loader == "cv2" else -0.6  # the released reader of video files does not divide by 255
    assert torch.allclose(found.float(), torch.tensor(expected), atol=1e-3)


def test_the_kernels_differ():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8))
    every = [reference_pixels(picture, 7, loader).float() for loader in ("folder", "pil", "cv2 divided")]
    assert all(float((a - b).abs().max()) > 0.05 for a, b in zip(every, every[1:], strict=False))
