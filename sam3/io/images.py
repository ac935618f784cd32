"""Pictures in: files, PIL images, arrays and tensors to one form, an upright RGB PIL image. Needs no torch.

This is the only place that turns PIL's (width, height) into our (height, width).
"""

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sam3.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

ImageLike: TypeAlias = "Image.Image | np.ndarray | Tensor"

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_CHANNELS = (1, 2, 3, 4)  # grey, grey + alpha, RGB, RGB + alpha


def open_image(path: str | Path) -> Image.Image:
    """The picture in a file as an upright RGB image (EXIF orientation applied); of an animation, its first frame.

    Raises:
        DataError: the file is missing, no picture, or damaged; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"image '{path}' {'is a folder' if path.is_dir() else 'does not exist'}; expected a picture file"
        )
    try:
        with Image.open(path) as image:
            return _from_pil(image)
    except Exception as error:  # decoders raise almost anything on damaged files
        raise DataError(f"image '{path}' cannot be read: {reason_unreadable(error)}") from error


def reason_unreadable(error: Exception) -> str:
    """What a decoder complained about, without the file name or memory address that Pillow puts into its messages."""
    if isinstance(error, UnidentifiedImageError):
        return "it holds no picture in a known format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def to_rgb_image(image: ImageLike) -> Image.Image:
    """Any usual form of a picture as an upright 8-bit RGB image; the input is left as it is.

    Args:
        image: a PIL image of any mode; an array (H, W), (H, W, C) or (C, H, W); a tensor (H, W),
            (C, H, W) or (H, W, C). C is 1 to 4; an alpha channel is dropped. Where both ends could be
            channels, arrays are read as (H, W, C) and tensors as (C, H, W). Values: uint8; uint16 over
            its whole range; bool; floats in [0, 1]; other integers in 0..255.

    Raises:
        DataError: an empty or damaged picture, another shape, or values outside the ranges above.
    """
    if isinstance(image, Image.Image):
        try:
            return _from_pil(image)
        except OSError as error:  # PIL reads the pixels of an opened file only now
            raise DataError(f"the image cannot be read: {reason_unreadable(error)}") from error
    if isinstance(image, np.ndarray):
        return Image.fromarray(_to_rgb_pixels(image, channels_last=True))
    if hasattr(image, "detach"):
        array = image.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
        return Image.fromarray(_to_rgb_pixels(array, channels_last=False))
    raise DataError(f"an image must be a PIL image, an array or a tensor, got {type(image).__name__}; open files first")


def image_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) in pixels."""
    width, height = image.size
    return height, width


def require_size(image: Image.Image, size: tuple[int, int], name: str) -> None:
    """Raise :class:`DataError` where a frame has another (height, width) than the first one of its video."""
    found = image_size(image)
    if found != size:
        raise DataError(
            f"{name} has {found[0]} x {found[1]} pixels (height x width), the first frame {size[0]} x {size[1]}; "
            "all frames of a video must have one size"
        )


def _from_pil(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise DataError(f"the image is empty: {image.size[1]} x {image.size[0]} pixels (height x width)")
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        return Image.fromarray(_to_rgb_pixels(np.asarray(image), channels_last=True))
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16-bit grey, which PIL would cut at 255
        deep = np.asarray(image).clip(0, 65535).astype(np.uint16)
        return Image.fromarray(_to_rgb_pixels(deep, channels_last=True))
    if image.mode in ("La", "RGBa"):  # premultiplied alpha has no direct way to RGB
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("RGB")


def _to_rgb_pixels(array: np.ndarray, *, channels_last: bool) -> np.ndarray:
    """(H, W, 3) uint8, contiguous."""
    array = _to_uint8(_to_height_width_channels(array, channels_last=channels_last))
    if array.shape[2] <= 2:
        array = np.repeat(array[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(array[:, :, :3])


def _to_height_width_channels(array: np.ndarray, *, channels_last: bool) -> np.ndarray:
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim == 3:
        last, first = array.shape[2] in _CHANNELS, array.shape[0] in _CHANNELS
        if not (last or first):
            raise DataError(f"image of shape {array.shape}: neither the first nor the last axis has 1 to 4 channels")
        if not last or (first and not channels_last):
            array = array.transpose(1, 2, 0)
    else:
        raise DataError(f"image of shape {array.shape}: expected (H, W), (H, W, C) or (C, H, W), one image at a time")
    if array.size == 0:
        raise DataError(f"the image is empty: shape {array.shape}")
    return array


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    is_float = np.issubdtype(array.dtype, np.floating)
    if not is_float and not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"image of dtype {array.dtype}: expected integers or floats")
    low, high, top = array.min(), array.max(), 1 if is_float else 255
    if not (low >= 0 and high <= top):  # also false for NaN
        raise DataError(f"image of dtype {array.dtype} has values in {low}..{high}; expected 0..{top}")
    return (array * 255 + 0.5).astype(np.uint8) if is_float else array.astype(np.uint8)
