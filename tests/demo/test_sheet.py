"""The demonstration's picture."""

import json

import numpy as np
from PIL import Image

from sam3.demo.sheet import MARGIN, contact_sheet, draw_predictions
from sam3.ops import rle
from sam3.predict.results import ImageResult
from sam3.structures import FoundObject


def test_contact_sheet_fits_and_centres_pictures():
    sizes = [(100, 50), (30, 60), (20, 20)]
    sheet = contact_sheet([Image.new("RGB", size, (200, 0, 0)) for size in sizes], columns=2, tile=50)
    assert sheet.size == (2 * (50 + MARGIN) + MARGIN, 2 * (50 + MARGIN) + MARGIN)
    red = np.asarray(sheet)[..., 1] == 0
    first = red[MARGIN : MARGIN + 50, MARGIN : MARGIN + 50]
    assert first.sum() == 50 * 25  # shrunk to half
    assert first[12:37].all()
    assert red[MARGIN : MARGIN + 50, 2 * MARGIN + 50 :].sum() == 25 * 50
    assert red[2 * MARGIN + 50 :].sum() == 20 * 20  # small pictures are not enlarged


def test_found_objects_are_drawn_in_white(tmp_path):
    (tmp_path / "predictions").mkdir()
    Image.new("RGB", (60, 40), (0, 0, 0)).save(tmp_path / "a.png")
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 20:50] = True
    found = FoundObject("red circle", 0.9, (20.0, 10.0, 50.0, 30.0), rle.encode(mask))
    result = ImageResult(1, "a", "a.png", "../a.png", 60, 40, [found])
    (tmp_path / "predictions" / "a.json").write_text(json.dumps(result.to_dict()))
    (drawn,) = draw_predictions(tmp_path, tmp_path, count=3)
    pixels = np.asarray(drawn)
    factor = pixels.shape[0] // 40
    assert (pixels[20 * factor, 35 * factor] > 90).all()  # tinted inside
    assert (pixels[36 * factor, 5 * factor] == 0).all()  # untouched outside
