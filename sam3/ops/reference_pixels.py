"""Pixels as the reference makes them of the frames of a video, to repeat its numbers.

It resizes the same content in four ways, by where it comes from, and does not divide those of video files by 255.
Source: spec/tracker_video.md 8, 11.2, 11.3. Ours has one way (:func:`sam3.ops.images.preprocess`).
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

LOADERS = ("folder", "pil", "cv2", "cv2 divided", "torchcodec")


def reference_pixels(image: Image.Image, side: int, loader: str) -> Tensor:
    """
    Args:
        image: RGB.
        side: of the square output.
        loader: ``folder`` (one file a frame), ``pil`` (a list of pictures), ``cv2`` (a video file), ``cv2 divided``
            (the same with the division that it lacks) or ``torchcodec`` (the other reader of video files).

    Returns:
        (3, side, side); float32 from ``cv2``, else float16.
    """
    if loader in ("folder", "pil"):
        kernel = Image.Resampling.BILINEAR if loader == "folder" else Image.Resampling.BICUBIC
        small = np.asarray(image.resize((side, side), kernel), dtype=np.float64) / 255
        return _centred(torch.from_numpy(small).permute(2, 0, 1).half())
    cubic = _cubic(image, side)
    if loader == "torchcodec":
        return _centred(cubic.half() / 255)
    levels = cubic.round().clamp(0, 255)  # on whole grey levels
    return _centred(levels / 255 if loader == "cv2 divided" else levels)


def _cubic(image: Image.Image, side: int) -> Tensor:
    """(3, side, side) float32 0 .. 255, without antialias."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    return F.interpolate(pixels, (side, side), mode="bicubic", align_corners=False)[0]


def _centred(values: Tensor) -> Tensor:
    """In the precision of ``values``, one rounding a step."""
    return (values - 0.5) / 0.5
