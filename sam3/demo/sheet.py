"""Many small pictures on one sheet."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

MARGIN = 6  # pixels between pictures
PAPER = (255, 255, 255)


def contact_sheet(pictures: Sequence[str | Path], *, columns: int = 4, tile: int = 280) -> Image.Image:
    """``pictures`` in rows, each fitted into a square of ``tile`` pixels and centred in it."""
    rows = -(-len(pictures) // columns)
    step = tile + MARGIN
    sheet = Image.new("RGB", (columns * step + MARGIN, rows * step + MARGIN), PAPER)
    for index, path in enumerate(pictures):
        with Image.open(path) as picture:
            picture = picture.convert("RGB")
        picture.thumbnail((tile, tile), Image.Resampling.LANCZOS)
        row, column = divmod(index, columns)
        corner = (
            MARGIN + column * step + (tile - picture.width) // 2,
            MARGIN + row * step + (tile - picture.height) // 2,
        )
        sheet.paste(picture, corner)
    return sheet
