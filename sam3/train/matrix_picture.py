"""A matrix as a picture for TensorBoard: dark cells are large shares, the numbers stand in them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from sam3.io.overlay import label_font

CELL = 34  # pixels
FONT_SIZE = 13
MARGIN = 10
LONGEST_NAME = 26  # characters
PAPER, INK, FULL = (255, 255, 255), (30, 30, 30), (25, 90, 175)
MAX_ROWS = 60  # more cannot be read


def matrix_picture(rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]) -> np.ndarray:
    """(H, W, 3) uint8; each row is coloured by its shares. Only the first :data:`MAX_ROWS` rows and columns.

    Args:
        rows: names on the left.
        columns: names at the top, written upwards.
        counts: (rows, columns) not negative.
    """
    rows, columns = [_short(name) for name in rows[:MAX_ROWS]], [_short(name) for name in columns[:MAX_ROWS]]
    left = max(_width(name) for name in rows) + 2 * MARGIN
    top = max(_width(name) for name in columns) + 2 * MARGIN
    size = (left + CELL * len(columns) + MARGIN, top + CELL * len(rows) + MARGIN)
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for row, name in enumerate(rows):
        middle = top + CELL * row + CELL // 2
        draw.text((left - MARGIN, middle), name, fill=INK, font=_font(name), anchor="rm")
        total = sum(counts[row]) or 1
        for column, count in enumerate(counts[row][: len(columns)]):
            _cell(draw, (left + CELL * column, top + CELL * row), count, count / total)
    for column, name in enumerate(columns):
        _upwards(canvas, name, (left + CELL * column + CELL // 2, top - MARGIN))
    return np.asarray(canvas)


def _cell(draw: ImageDraw.ImageDraw, corner: tuple[int, int], count: int, share: float) -> None:
    x, y = corner
    colour = tuple(round(paper + share * (full - paper)) for paper, full in zip(PAPER, FULL, strict=True))
    draw.rectangle((x + 1, y + 1, x + CELL - 2, y + CELL - 2), fill=colour, outline=(225, 225, 225))
    text = str(count) if count < 10_000 else f"{count / 1000:.0f}k"
    ink = PAPER if share > 0.5 else INK
    draw.text((x + CELL // 2, y + CELL // 2), text, fill=ink, font=label_font(FONT_SIZE - 2), anchor="mm")


def _upwards(canvas: Image.Image, name: str, foot: tuple[int, int]) -> None:
    """Text turned by a quarter, written from ``foot`` to the top."""
    strip = Image.new("RGB", (_width(name) + 2, FONT_SIZE + 6), PAPER)
    ImageDraw.Draw(strip).text((0, strip.height // 2), name, fill=INK, font=_font(name), anchor="lm")
    strip = strip.rotate(90, expand=True)
    canvas.paste(strip, (foot[0] - strip.width // 2, foot[1] - strip.height))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _font(name: str):
    return label_font(FONT_SIZE, name)


def _width(name: str) -> int:
    return int(np.ceil(_font(name).getlength(name)))
