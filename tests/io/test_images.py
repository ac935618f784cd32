"""Pictures of every kind become upright 8-bit RGB; broken ones are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam3.errors import DataError
from sam3.io.images import IMAGE_SUFFIXES, image_size, open_image, to_rgb_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
GREY_AS_RGB = np.repeat(GREY[:, :, None], 3, 2)
ALPHA = RNG.integers(0, 256, (6, 9, 1), dtype=np.uint8)


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB, RGB),
        (RGB.transpose(2, 0, 1), RGB),
        (GREY, GREY_AS_RGB),
        (GREY[:, :, None], GREY_AS_RGB),
        (GREY[None], GREY_AS_RGB),
        (np.concatenate([RGB, ALPHA], 2), RGB),
        (np.dstack([GREY, ALPHA]), GREY_AS_RGB),
        (RGB / 255.0, RGB),
        ((RGB / 255.0).astype(np.float16), RGB),
        (RGB.astype(np.uint16) * 257, RGB),
        (RGB.astype(np.int64), RGB),
        (GREY > 127, np.where(GREY_AS_RGB > 127, 255, 0)),
        (RGB[:, ::-1], RGB[:, ::-1]),
    ],
)
def test_arrays(array: np.ndarray, expected: np.ndarray) -> None:
    before = array.copy()
    assert np.array_equal(pixels(to_rgb_image(array)), expected)
    assert np.array_equal(array, before)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.from_numpy(RGB).permute(2, 0, 1), RGB),
        (torch.from_numpy(RGB), RGB),
        (torch.from_numpy(GREY), GREY_AS_RGB),
        (torch.from_numpy(RGB).permute(2, 0, 1) / 255, RGB),
        ((torch.from_numpy(RGB).permute(2, 0, 1) / 255).requires_grad_(), RGB),
        ((torch.tensor([[[0.0, 1.0]]], dtype=torch.bfloat16)), np.array([[[0] * 3, [255] * 3]])),
    ],
)
def test_tensors(tensor: torch.Tensor, expected: np.ndarray) -> None:
    assert np.array_equal(pixels(to_rgb_image(tensor)), expected)


def test_shape_that_reads_both_ways() -> None:
    both = RNG.integers(0, 256, (3, 5, 3), dtype=np.uint8)
    assert image_size(to_rgb_image(both)) == (3, 5)
    assert image_size(to_rgb_image(torch.from_numpy(both))) == (5, 3)


def test_palette_and_alpha_and_other_modes() -> None:
    picture = Image.fromarray(RGB)
    palette = picture.quantize(200)
    assert np.array_equal(pixels(to_rgb_image(palette)), np.asarray(palette.convert("RGB")))
    rgba = picture.copy()
    rgba.putalpha(Image.fromarray(ALPHA[:, :, 0]))
    assert np.array_equal(pixels(to_rgb_image(rgba)), RGB)
    grey_alpha = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA[:, :, 0])])
    assert np.array_equal(pixels(to_rgb_image(grey_alpha)), GREY_AS_RGB)
    for mode in ("1", "L", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "RGBa", "La"):
        source = rgba if mode == "RGBa" else grey_alpha if mode == "La" else picture
        if mode == "LAB":
            source = Image.new("LAB", (9, 6))
        assert image_size(to_rgb_image(source.convert(mode))) == (6, 9), mode


def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    deep = (np.arange(54, dtype=np.uint16).reshape(6, 9) * 1236).clip(0, 65535)
    expected = np.round(deep / 257)
    Image.fromarray(deep).save(tmp_path / "tief.png")
    Image.fromarray(deep).save(tmp_path / "tief.tif")
    for picture in (open_image(tmp_path / "tief.png"), open_image(tmp_path / "tief.tif")):
        assert np.array_equal(pixels(picture)[:, :, 0], expected)
    assert np.array_equal(pixels(to_rgb_image(Image.fromarray(deep.astype(np.int32))))[:, :, 1], expected)
    assert np.array_equal(pixels(to_rgb_image(Image.fromarray((GREY / 255).astype(np.float32)))), GREY_AS_RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "gedreht – 旋转.png"
    Image.fromarray(RGB).save(path, exif=exif)
    upright = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB),
    }[orientation]
    once = open_image(path)
    assert np.array_equal(pixels(once), upright)
    assert np.array_equal(pixels(to_rgb_image(once)), upright)
    with Image.open(path) as unread:
        assert np.array_equal(pixels(to_rgb_image(unread)), upright)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((5, 6, 7)), "neither the first nor the last axis"),
        (np.zeros((1, 3, 5, 6)), "one image at a time"),
        (np.zeros((0, 6, 3), np.uint8), "empty"),
        (np.zeros((2, 3, 3)) + 1.5, "expected 0..1"),
        (np.full((2, 3, 3), np.nan), "expected 0..1"),
        (np.full((2, 3, 3), -1), "expected 0..255"),
        (np.full((2, 3, 3), "x"), "expected integers or floats"),
        (Image.new("RGB", (0, 4)), "empty: 4 x 0"),
        ("picture.png", "got str; open files first"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(bad: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_rgb_image(bad)


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "bewegt.gif"
    frames = [Image.new("P", (9, 6), color) for color in (0, 1)]
    for frame in frames:
        frame.putpalette([200, 30, 40, 0, 0, 255])
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert path.suffix in IMAGE_SUFFIXES
    assert np.array_equal(pixels(open_image(path)), np.broadcast_to(np.uint8([200, 30, 40]), (6, 9, 3)))


def test_broken_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "ganz.png"
    Image.fromarray(RGB).save(whole)
    half = tmp_path / "halb.png"
    half.write_bytes(whole.read_bytes()[:60])
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    empty = tmp_path / "leer.jpg"
    empty.touch()
    for path in (half, text, empty):
        with pytest.raises(DataError, match=f"{path.name}' cannot be read: ") as caught:
            open_image(path)
        assert str(caught.value).count(path.name) == 1
    with Image.open(half) as only_opened, pytest.raises(DataError, match="the image cannot be read: .*truncated"):
        to_rgb_image(only_opened)
    with pytest.raises(DataError, match="does not exist"):
        open_image(tmp_path / "nirgends.png")
    with pytest.raises(DataError, match="is a folder"):
        open_image(tmp_path)
