"""The demonstration's picture: what batch inference found, many small pictures on one sheet."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from sam3.io.images import open_image
from sam3.io.overlay import draw_overlay
from sam3.predict.results import ImageResult

MARGIN = 6  # pixels between pictures
PAPER = (255, 255, 255)
WHITE = (255, 255, 255)


def draw_predictions(results: str | Path, images: str | Path, *, count: int) -> list[Image.Image]:
    """The first ``count`` pictures of ``images`` with what the batch inference folder ``results`` found in them.

    White for every word, unlike the overlays of batch inference: the words of this world name colours, and a
    tint would hide them.
    """
    drawn = []
    for path in sorted((Path(results) / "predictions").glob("*.json"))[:count]:
        result = ImageResult.from_dict(json.loads(path.read_text(encoding="utf-8")))
        picture = open_image(Path(images) / result.file_name)
        drawn.append(draw_overlay(picture, result.objects, {found.label: WHITE for found in result.objects}))
    return drawn


def contact_sheet(pictures: Sequence[Image.Image], *, columns: int = 4, tile: int = 280) -> Image.Image:
    """``pictures`` in rows, each fitted into a square of ``tile`` pixels and centred in it."""
    rows = -(-len(pictures) // columns)
    step = tile + MARGIN
    sheet = Image.new("RGB", (columns * step + MARGIN, rows * step + MARGIN), PAPER)
    for index, picture in enumerate(pictures):
        small = picture.convert("RGB")
        small.thumbnail((tile, tile), Image.Resampling.LANCZOS)
        row, column = divmod(index, columns)
        left = MARGIN + column * step + (tile - small.width) // 2
        top = MARGIN + row * step + (tile - small.height) // 2
        sheet.paste(small, (left, top))
    return sheet
