"""A picture of what was found: tinted masks with outlines, boxes, labels with scores. Pillow and numpy only."""

import colorsys
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sam3.ops.contours import mask_rings, simplify_polygon
from sam3.structures import FoundObject

Colour = tuple[int, int, int]

OPACITY = 0.4  # of a mask's tint
SMALL_SIDE = 480  # images whose longer side is shorter are enlarged by a whole factor, so that labels can be read
MAX_ENLARGEMENT = 8
# Neighbours in this list differ in hue and in lightness; red and green never follow each other.
PALETTE: tuple[Colour, ...] = (
    (230, 57, 70),
    (42, 157, 244),
    (255, 190, 11),
    (58, 170, 53),
    (157, 78, 221),
    (0, 180, 170),
    (251, 111, 20),
    (240, 98, 180),
    (130, 90, 44),
    (160, 200, 40),
)
# Tried in this order for letters that Pillow's own font lacks; names as font files are called on Linux, macOS, Windows.
FONTS_WITH_MANY_LETTERS = (
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "Arial Unicode.ttf",
    "DejaVuSans.ttf",
)


def label_colours(labels: Iterable[str]) -> dict[str, Colour]:
    """A colour for every label, by its position: the palette first, then ever new hues."""
    return {label: palette_colour(index) for index, label in enumerate(dict.fromkeys(labels))}


def draw_overlay(
    image: Image.Image, objects: Sequence[FoundObject], colours: dict[str, Colour], *, with_scores: bool = True
) -> Image.Image:
    """A new RGB picture with ``objects`` drawn into ``image``, worst first so that the best lie on top.

    Args:
        image: upright RGB, the size that the masks have.
        objects: with masks, boxes in pixels of ``image``.
        colours: label -> RGB; see :func:`label_colours`.
        with_scores: write the score behind the label.

    Returns:
        The size of ``image``, or for small images a whole multiple of it.
    """
    factor = _enlargement(image.size)
    canvas = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    stroke = max(1, round(min(canvas.size) / 300))
    drawn = sorted(objects, key=lambda found: found.score)
    draw = ImageDraw.Draw(canvas)
    for found in drawn:
        cutout = found.cutout()
        if cutout is not None:
            _tint(canvas, *cutout, factor, colours[found.label])
            _outline(draw, *cutout, factor, colours[found.label], stroke)
    for found in drawn:
        box = tuple(value * factor for value in found.box)
        _rectangle(draw, box, canvas.size, colours[found.label], stroke)
    font_size = int(np.clip(min(canvas.size) / 32, 11, 60))
    for found in drawn:
        top_left = (found.box[0] * factor, found.box[1] * factor)
        text = f"{found.label} {found.score:.2f}" if with_scores else found.label
        _caption(draw, canvas.size, top_left, text, colours[found.label], font_size)
    return canvas


def palette_colour(index: int) -> Colour:
    """The colour of number ``index``: the palette first, then ever new hues."""
    if index < len(PALETTE):
        return PALETTE[index]
    hue = index * 0.618034 % 1  # golden angle: far from its predecessors however many there are
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.95 if index % 2 else 0.7)
    return round(255 * red), round(255 * green), round(255 * blue)


def _enlargement(size: tuple[int, int]) -> int:
    return min(MAX_ENLARGEMENT, max(1, -(-SMALL_SIDE // max(size))))


def _tint(canvas: Image.Image, mask: NDArray[np.bool_], corner: tuple[int, int], factor: int, colour: Colour) -> None:
    """Mix ``colour`` into the pixels of a mask whose upper left corner lies at ``corner``."""
    stencil = Image.fromarray(mask.astype(np.uint8) * round(255 * OPACITY))
    stencil = stencil.resize((stencil.width * factor, stencil.height * factor), Image.Resampling.NEAREST)
    left, top = corner[0] * factor, corner[1] * factor
    canvas.paste(colour, (left, top, left + stencil.width, top + stencil.height), stencil)


def _outline(
    draw: ImageDraw.ImageDraw,
    mask: NDArray[np.bool_],
    corner: tuple[int, int],
    factor: int,
    colour: Colour,
    stroke: int,
) -> None:
    for ring in mask_rings(mask):
        smooth = simplify_polygon(ring.points, stroke / (4 * factor))
        points = ((smooth + corner) * factor).ravel().tolist()
        draw.line(points + points[:4], fill=colour, width=stroke, joint="curve" if stroke > 2 else None)


def _rectangle(
    draw: ImageDraw.ImageDraw, box: Sequence[float], size: tuple[int, int], colour: Colour, stroke: int
) -> None:
    """Box clipped to the picture, so that a side beyond the border is still seen."""
    width, height = size
    x0, x1 = sorted(min(max(value, 0), width - 1) for value in (box[0], box[2]))
    y0, y1 = sorted(min(max(value, 0), height - 1) for value in (box[1], box[3]))
    draw.rectangle((x0, y0, x1, y1), outline=colour, width=stroke)


def _caption(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    top_left: tuple[float, float],
    text: str,
    colour: Colour,
    font_size: int,
) -> None:
    """Text on a plate of its colour above the box, or inside it where there is no room above."""
    font = label_font(font_size, text)
    left, top, right, bottom = font.getbbox(text)
    pad = max(1, font_size // 6)
    plate_width, plate_height = right - left + 2 * pad, bottom - top + 2 * pad
    x = int(min(max(top_left[0], 0), max(0, size[0] - plate_width)))
    y = int(top_left[1] - plate_height)
    y = int(min(y if y >= 0 else max(top_left[1], 0), max(0, size[1] - plate_height)))
    draw.rectangle((x, y, x + plate_width, y + plate_height), fill=colour)
    draw.text((x + pad - left, y + pad - top), text, fill=_readable_on(colour), font=font)


def _readable_on(colour: Colour) -> Colour:
    """Black or white, whichever stands out more (relative luminance of Rec. 709)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 140 else (255, 255, 255)


def label_font(size: int, text: str = "") -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font that has the letters of ``text``, as far as one is installed; ``size`` in pixels."""
    return _font(size, text.isascii())


@lru_cache
def _font(size: int, is_ascii: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in () if is_ascii else FONTS_WITH_MANY_LETTERS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
