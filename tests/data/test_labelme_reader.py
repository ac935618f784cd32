"""Every way in which an annotation file can be wrong has a reason of its own."""

import json

import numpy as np
import pytest

from sam3.data.labelme_reader import read_image_data, read_labelme
from sam3.errors import DataError
from tests.data.labelme_folder import picture, shape, write_pair

SQUARE = [(2, 2), (9, 2), (9, 9), (2, 9)]


def test_a_good_file(tmp_path):
    shapes = [shape(" cat ", SQUARE, group_id=3), shape("Ho\u0308lle", [(1, 1), (4, 5.5)], "rectangle", mask=None)]
    annotation = read_labelme(write_pair(tmp_path, "a.png", shapes))
    first, second = annotation.shapes
    assert (annotation.image_path, annotation.has_image_data, annotation.size) == ("a.png", False, (48, 64))
    assert (first.number, first.label, first.shape_type, first.group_id, first.mask) == (1, "cat", "polygon", 3, None)
    assert (first.points == SQUARE).all()
    assert first.points.dtype == np.float64
    assert second.label == "H\u00f6lle"  # one character instead of letter and mark
    assert str(second) == "shape 2 (rectangle 'H\u00f6lle')"


def test_keys_that_old_versions_lack_may_be_absent(tmp_path):
    shapes = [{"label": "cat", "points": SQUARE}]
    annotation = read_labelme(write_pair(tmp_path, "a.png", shapes, imageHeight=..., imageWidth=..., imageData=...))
    assert annotation.size == (None, None)
    assert annotation.shapes[0].shape_type == "polygon"
    assert annotation.shapes[0].group_id is None


def test_a_byte_order_mark_is_no_trouble(tmp_path):
    path = write_pair(tmp_path, "a.png", [])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_labelme(path).shapes == ()


def test_an_embedded_image_is_read_on_request_only(tmp_path):
    path = write_pair(tmp_path, "a.png", [], embedded=True)
    assert read_labelme(path).has_image_data
    assert read_image_data(path).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"shapes": [', "not valid JSON, truncated or damaged"),
        ("", "not valid JSON"),
        ("[" * 100_000, "not usable JSON"),
        ("[]", "the JSON holds a list, expected an object"),
        ("null", "holds null"),
        ('{"images": []}', "not a Labelme annotation: 'shapes' is missing"),
        ('{"shapes": {}}', "'shapes' is an object, expected a list"),
        ('{"shapes": [], "imagePath": 7}', "'imagePath' must be text, got a number"),
        ('{"shapes": [], "imageHeight": 0}', "'imageHeight' must be a positive whole number"),
        ('{"shapes": [], "imageWidth": "64"}', "'imageWidth' must be .* got '64'"),
        ('{"shapes": [], "imageWidth": NaN}', "'imageWidth' must be"),
    ],
)
def test_a_file_that_is_no_annotation(tmp_path, text, reason):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=reason):
        read_labelme(path)


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        ("cat", "shape 1 is text, expected an object"),
        (shape("", SQUARE), "shape 1 has no label"),
        (shape("  ", SQUARE), "shape 1 has no label"),
        ({"points": SQUARE}, "shape 1 has no label .'label' is None"),
        (shape(5, SQUARE), "shape 1 has no label .'label' is 5"),
        (shape("cat", []), r"shape 1 \(polygon 'cat'\) has no points .*empty"),
        ({"label": "cat"}, r"shape 1 \(polygon 'cat'\) has no points .*null"),
        (shape("cat", SQUARE, 3), "'shape_type' must be text"),
        (shape("cat", SQUARE, group_id=[1]), "'group_id' must be a whole number or null"),
        (shape("cat", SQUARE, group_id=True), "'group_id' must be a whole number or null"),
        (shape("cat", [(1, 2), (3,)]), r"point 2 must be \[x, y\]"),
        (shape("cat", [(1, 2), ("3", 4)]), r"point 2 must be \[x, y\]"),
        (shape("cat", [(1, 2), (None, 4)]), r"point 2 must be \[x, y\]"),
        (shape("cat", [(1, 2), (float("nan"), 4)]), r"point 2 is \[nan, 4\]; coordinates must be finite"),
        (shape("cat", [(1, float("inf"))]), "point 1 is .*finite"),
        (shape("cat", [(10**400, 1)]), "point 1 is .*below a million"),
    ],
)
def test_a_malformed_shape(tmp_path, one, reason):
    with pytest.raises(DataError, match=reason):
        read_labelme(write_pair(tmp_path, "a.png", [one]))


def test_text_in_another_encoding(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps({"shapes": [shape("h\u00f6hle", SQUARE)]}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte \d+\)"):
        read_labelme(path)


def test_a_missing_file_has_a_reason(tmp_path):
    with pytest.raises(DataError, match="cannot be opened: No such file"):
        read_labelme(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["not base64!", "abc", 5])
def test_bad_image_data(tmp_path, text):
    path = write_pair(tmp_path, "a.png", [], imageData=text)
    with pytest.raises(DataError, match="'imageData' (is not valid base64|must be base64 text)"):
        read_image_data(path)


def test_the_picture_of_the_test_folder_is_a_picture():
    assert picture(10, 20).shape == (10, 20, 3)
    assert (picture(seed=1) != picture(seed=2)).any()
