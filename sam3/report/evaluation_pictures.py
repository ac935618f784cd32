"""Pairs as pictures: what was annotated beside what was predicted."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from sam3.data.saco import SacoPair
from sam3.errors import DataError
from sam3.eval.cgf1 import Pair
from sam3.eval.error_analysis import PairErrors
from sam3.eval.matching import Shapes
from sam3.io.images import open_image
from sam3.io.overlay import draw_overlay
from sam3.ops import rle
from sam3.report.evaluation_analysis import SubsetAnalysis
from sam3.report.html import Markup, image, missing
from sam3.structures import FoundObject

MAX_SIDE = 480  # pixels of one of the two pictures
GREEN, ORANGE = (27, 175, 122), (235, 104, 52)


def worst_pictures(analysis: SubsetAnalysis, count: int) -> Iterator[tuple[Markup, str]]:
    """(picture, caption) of the worst pairs; of a picture that cannot be read, the reason."""
    worst = {errors.pair_id: errors for errors in analysis.worst(count)}
    compared = {pair.pair_id: pair for pair in analysis.comparison.pairs() if pair.pair_id in worst}
    for pair_id, errors in worst.items():
        asked = analysis.pairs[pair_id]
        caption = f"“{asked.phrase}”, {asked.file_name} (pair {pair_id}): {describe(errors)}"
        try:
            picture = open_image(analysis.subset.image_folder / asked.file_name)
        except DataError as error:
            yield missing(str(error)), caption
            continue
        yield image(side_by_side(picture, compared[pair_id], errors.annotator, asked), caption), caption


def describe(errors: PairErrors) -> str:
    """The errors of a pair in words."""
    well = int(np.count_nonzero(errors.ious >= 0.5))
    parts = [
        f"objects: {errors.num_objects}, predictions: {errors.num_predictions}",
        f"{well} matched at IoU 0.5",
        *([f"{errors.misses} missed"] if errors.misses else []),
        *([f"{errors.duplicates} duplicate"] if errors.duplicates else []),
        *([f"{errors.spurious} spurious"] if errors.spurious else []),
    ]
    return ", ".join(parts)


def side_by_side(picture: Image.Image, pair: Pair, annotator: int, asked: SacoPair) -> Image.Image:
    """Objects of the annotator that counts left, predictions right."""
    halves = [
        _drawn(picture, pair.annotators[annotator], asked, "annotated", GREEN),
        _drawn(picture, _confident(pair), asked, "predicted", ORANGE),
    ]
    sheet = Image.new("RGB", (halves[0].width + halves[1].width + 6, halves[0].height), (128, 128, 128))
    sheet.paste(halves[0], (0, 0))
    sheet.paste(halves[1], (halves[0].width + 6, 0))
    return sheet


def _confident(pair: Pair) -> Shapes:
    kept = np.flatnonzero(np.asarray(pair.scores) >= 0.5)
    return pair.predictions[kept] if isinstance(pair.predictions, np.ndarray) else [pair.predictions[i] for i in kept]


def _drawn(
    picture: Image.Image, shapes: Shapes, asked: SacoPair, label: str, colour: tuple[int, int, int]
) -> Image.Image:
    objects = [_found(shape, asked, label) for shape in shapes]
    drawn = draw_overlay(picture, objects, {label: colour}, with_scores=False)
    drawn.thumbnail((MAX_SIDE, MAX_SIDE))
    return drawn


def _found(shape, asked: SacoPair, label: str) -> FoundObject:
    """A mask, or a box (shares of the picture) filled in."""
    if isinstance(shape, np.ndarray):
        x, y, w, h = shape * [asked.width, asked.height, asked.width, asked.height]
        mask = np.zeros((asked.height, asked.width), dtype=bool)
        mask[max(0, int(y)) : int(np.ceil(y + h)), max(0, int(x)) : int(np.ceil(x + w))] = True
        shape = rle.encode(mask)
    else:
        x, y, w, h = rle.to_box_xywh(shape)
    return FoundObject(label=label, score=1.0, box=(x, y, x + w, y + h), segmentation=shape)
