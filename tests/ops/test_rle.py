"""Expected values come from pycocotools 2, which defines the format, and from masks drawn by hand."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from sam3.errors import DataError
from sam3.ops import rle

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda size: arrays(bool, size))


def big_mask(seed: int = 0) -> np.ndarray:
    """Blobs: runs long enough to need several characters, and shrinking ones (negative differences)."""
    y, x = np.mgrid[:300, :400]
    mask = np.zeros((300, 400), bool)
    for cx, cy, r in np.random.default_rng(seed).uniform((0, 0, 5), (400, 300, 90), size=(6, 3)):
        mask |= (x - cx) ** 2 + (y - cy) ** 2 < r**2
    return mask


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_round_trip_area_and_box_of_any_mask(mask):
    encoded = rle.encode(mask)
    assert encoded["size"] == list(mask.shape)
    assert encoded["counts"] == coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    assert (rle.decode(encoded) == mask).all()
    assert rle.area(encoded) == mask.sum()
    if mask.any():
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert rle.to_box_xywh(encoded) == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
    else:
        assert rle.to_box_xywh(encoded) == [0, 0, 0, 0]


def test_long_runs_decode_like_pycocotools():
    for seed in range(5):
        mask = big_mask(seed)
        encoded = rle.encode(mask)
        assert (rle.decode(encoded) == mask).all()
        assert (rle.decode(encoded) == coco_mask.decode(dict(encoded)).astype(bool)).all()
        assert rle.area(encoded) == mask.sum() > 0


def test_all_zero_mask_is_one_run_and_no_pixel_is_legal():
    assert rle.encode(np.zeros((4, 5), bool)) == {"size": [4, 5], "counts": "d0"}
    assert rle.decode({"size": [4, 5], "counts": [20]}).sum() == 0
    assert rle.decode(rle.encode(np.zeros((0, 5), bool))).shape == (0, 5)


def test_some_columns_equal_those_of_the_whole_mask():
    mask = np.random.default_rng(0).random((7, 9)) < 0.5
    code = rle.encode(mask)
    for start, stop in [(0, 9), (0, 0), (9, 9), (2, 5), (8, 9)]:
        assert (rle.decode_columns(code, start, stop) == mask[:, start:stop]).all()
    with pytest.raises(ValueError, match=r"columns 3\.\.10 of a mask of width 9"):
        rle.decode_columns(code, 3, 10)


def test_integers_other_than_one_are_object():
    assert rle.area(rle.encode(np.array([[0, 255], [2, 0]]))) == 2


def test_iou():
    first, second = big_mask(0), big_mask(1)
    expected = (first & second).sum() / (first | second).sum()
    assert rle.iou(rle.encode(first), rle.encode(second)) == pytest.approx(expected, abs=1e-12)
    uncompressed = {"size": [2, 2], "counts": [0, 4]}
    assert rle.iou(uncompressed, rle.encode(np.ones((2, 2)))) == 1.0


def test_bytes_text_and_lists_mean_the_same():
    mask = big_mask()
    compressed = rle.encode(mask)
    flat = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    runs = [0, *runs] if flat[0] else runs
    uncompressed = {"size": [300, 400], "counts": runs}
    assert rle.from_any(uncompressed, 300, 400) == compressed
    assert rle.from_any({"size": [300, 400], "counts": compressed["counts"].encode()}, 300, 400) == compressed
    assert (rle.decode(uncompressed) == mask).all()
    assert rle.area(uncompressed) == mask.sum()
    assert rle.to_box_xywh(uncompressed) == rle.to_box_xywh(compressed)


def test_an_rle_keeps_its_own_size():
    assert rle.from_any({"size": [2, 3], "counts": [6]}, 300, 400)["size"] == [2, 3]


def test_polygons_are_united_and_cut_at_the_image():
    square, far = [1, 1, 4, 1, 4, 4, 1, 4], [6, 6, 20, 6, 20, 20, 6, 20]
    mask = rle.decode(rle.from_polygons([square, far], 8, 10))
    expected = np.zeros((8, 10), bool)
    expected[1:4, 1:4] = True
    expected[6:, 6:] = True
    assert (mask == expected).all()
    assert rle.from_any([square, far], 8, 10) == rle.from_polygons([square, far], 8, 10)
    assert rle.from_any(square, 8, 10) == rle.from_polygons([square], 8, 10)


def test_union_of_masks():
    masks = [big_mask(0), big_mask(1), np.zeros((300, 400), bool)]
    assert rle.union([rle.encode(mask) for mask in masks]) == rle.encode(masks[0] | masks[1])
    assert rle.union([rle.encode(masks[0])]) == rle.encode(masks[0])
    with pytest.raises(DataError, match=r"one size.*\(3, 4\), \(4, 3\)"):
        rle.union([rle.encode(np.zeros((3, 4))), rle.encode(np.zeros((4, 3)))])
    with pytest.raises(DataError, match="none"):
        rle.union([])


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "at least one part"),
        ([[1, 1, 4, 4]], "at least 3 points, got 2"),
        ([[1, 1, 4, 4, 5]], "pairs"),
        ([[1, 1, 4, float("nan"), 5, 6]], "not finite"),
        ([[1, 1, 4, 1e12, 5, 6]], "million"),
        ([["a", 1, 4, 1, 5, 6]], "numbers"),
        ([[[1, 1], [4, 1], [5, 6]]], "flat"),
        ("abc", "got str"),
        ({"counts": [20]}, "size"),
        ({"size": [4, "5"], "counts": [20]}, "size"),
        ({"size": [4, 5]}, "counts"),
        ({"size": [4, 5], "counts": [19]}, "add up to height x width = 20"),
        ({"size": [4, 5], "counts": [21, -1]}, "non-negative"),
        ({"size": [4, 5], "counts": [19.5, 0.5]}, "whole numbers"),
        ({"size": [4, 5], "counts": "05"}, "got a sum of 5"),
        ({"size": [4, 5], "counts": ""}, "got a sum of 0"),
        ({"size": [4, 5], "counts": "d"}, "middle of a run"),
        ({"size": [4, 5], "counts": "d0\x7f"}, "character"),
        ({"size": [4, 5], "counts": "o" * 20 + "0"}, "60 bits"),
    ],
)
def test_what_cannot_be_read_is_named(segmentation, message):
    with pytest.raises(DataError, match=message):
        rle.from_any(segmentation, 4, 5)


def test_encode_names_a_wrong_shape():
    with pytest.raises(DataError, match=r"\(1, 2, 3\)"):
        rle.encode(np.zeros((1, 2, 3), bool))


def test_import_needs_neither_torch_nor_pycocotools():
    check = "import sys, sam3.ops.rle; assert not {'torch', 'pycocotools'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(MASKS, max_size=5))
def test_areas_of_masks_of_different_sizes(masks):
    texts = [rle.encode(mask)["counts"].encode() for mask in masks]
    heights, widths = (np.array([mask.shape[axis] for mask in masks], dtype=np.int64) for axis in (0, 1))
    assert rle.areas(texts, heights, widths).tolist() == [mask.sum() for mask in masks]
    for index in range(len(masks)):
        heights[index] += 1
        with pytest.raises(DataError, match=f"mask {index}: "):
            rle.areas(texts, heights, widths)
        heights[index] -= 1


@pytest.mark.parametrize("damaged", ["", "p", "é", "0o", " 1", "oooooooooooooo0", "m5"])
def test_one_damaged_mask_among_many_is_noticed(damaged):
    sound = rle.encode(big_mask())["counts"].encode()
    texts = [sound] * 600
    assert len(rle.areas(texts, 300, 400)) == 600
    texts[555] = damaged.encode()
    with pytest.raises(DataError, match="mask 555: "):
        rle.areas(texts, 300, 400)
