"""Shapes to instances, expected masks drawn by hand; outlines themselves are tested in tests/ops/test_polygons.py."""

import base64

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sam3.data.labelme_reader import LabelmeShape
from sam3.data.labelme_shapes import Instance, to_instances
from sam3.errors import DataError
from sam3.ops import rle
from tests.data.labelme_folder import mask_shape, png_base64

HEIGHT, WIDTH = 40, 50
SQUARE = [(5, 5), (15, 5), (15, 15), (5, 15)]


def drawn(shape_type: str, points, *, label="cat", number=1, group_id=None, mask=None) -> LabelmeShape:
    return LabelmeShape(number, label, shape_type, np.array(points, dtype=np.float64), group_id, mask)


def drawn_mask(pixels, x, y, **more) -> LabelmeShape:
    document = mask_shape("cat", np.asarray(pixels), x, y)
    return drawn("mask", document["points"], mask=document["mask"], **more)


def convert(*shapes: LabelmeShape) -> list[Instance]:
    return to_instances(shapes, HEIGHT, WIDTH)


def pixels_of(instance: Instance) -> np.ndarray:
    return rle.decode(rle.from_any(instance.segmentation, HEIGHT, WIDTH))


def filled(x0, y0, x1, y1) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize(
    ("shape_type", "points"),
    [
        ("polygon", SQUARE),
        ("rectangle", [(5, 5), (15, 15)]),
        ("rectangle", [(15, 5), (5, 15)]),
        ("rectangle", SQUARE),
        ("oriented_rectangle", SQUARE),
        ("oriented_rectangle", [SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]]),
    ],
)
def test_the_same_square_drawn_in_many_ways(shape_type, points):
    (instance,) = convert(drawn(shape_type, points))
    assert instance.box_xywh == [5, 5, 10, 10]  # full width, not one pixel short
    assert instance.area == 100
    assert len(instance.segmentation) == 1
    assert len(instance.segmentation[0]) == 8
    assert (pixels_of(instance) == filled(5, 5, 15, 15)).all()
    assert instance.num_shapes == 1


def test_a_polygon_keeps_its_points_as_they_are():
    points = [(3.25, 4.123456789), (30.75, 5), (20, 33.3)]
    (instance,) = convert(drawn("polygon", points))
    assert instance.segmentation == [[3.25, 4.123456789, 30.75, 5.0, 20.0, 33.3]]
    assert instance.box_xywh == [3.25, 4.123456789, 27.5, 33.3 - 4.123456789]
    assert instance.area == coco_mask.area(coco_mask.frPyObjects(instance.segmentation, HEIGHT, WIDTH)[0])


def test_circle():
    (instance,) = convert(drawn("circle", [(25, 20), (25, 30)]))
    assert instance.box_xywh == pytest.approx([15, 10, 20, 20])
    assert instance.area == pytest.approx(np.pi * 100, rel=0.02)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    distance = np.hypot(x - 25, y - 20)
    assert pixels_of(instance)[distance < 9.3].all()
    assert not pixels_of(instance)[distance > 10.7].any()


def test_mask_lies_where_its_box_says_both_ends_included():
    pixels = np.array([[1, 0, 1], [1, 1, 1]])
    (instance,) = convert(drawn_mask(pixels, 7, 9))
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[9:11, 7:10] = pixels
    assert (pixels_of(instance) == expected).all()
    assert instance.segmentation == rle.encode(expected)
    assert instance.box_xywh == [7, 9, 3, 2]
    assert instance.area == 5


def test_mask_points_are_truncated():
    points = [(417.39 - 400, 5.9), (419.99 - 400, 6.0)]
    (instance,) = convert(drawn("mask", points, mask=png_base64(np.full((2, 3), 255, np.uint8))))
    assert instance.box_xywh == [17, 5, 3, 2]


@pytest.mark.parametrize(("x", "y", "box"), [(-4, -6, [0, 0, 6, 4]), (45, 35, [45, 35, 5, 5])])
def test_mask_is_cut_at_the_image(x, y, box):
    (instance,) = convert(drawn_mask(np.ones((10, 10)), x, y))
    assert instance.box_xywh == box
    assert instance.area == box[2] * box[3]


def test_colour_and_palette_masks_count_where_they_are_not_black():
    coloured = np.zeros((4, 4, 3), np.uint8)
    coloured[1:3, 1:3] = (0, 200, 0)
    shape = drawn("mask", [(0, 0), (3, 3)], mask=png_base64(coloured))
    assert convert(shape)[0].box_xywh == [1, 1, 2, 2]


@pytest.mark.parametrize("shape_type", ["polygon", "rectangle"])
def test_what_sticks_out_is_cut(shape_type):
    points = [(40, 30), (60, 30), (60, 50), (40, 50)] if shape_type == "polygon" else [(60, 50), (40, 30)]
    (instance,) = convert(drawn(shape_type, points))
    assert instance.box_xywh == [40, 30, 10, 10]
    assert instance.area == 100
    assert max(instance.segmentation[0][0::2]) == WIDTH
    assert max(instance.segmentation[0][1::2]) == HEIGHT


def test_a_self_intersecting_polygon_is_what_its_pixels_are():
    bow_tie = [(5, 5), (25, 25), (25, 5), (5, 25)]
    (instance,) = convert(drawn("polygon", bow_tie))
    assert instance.area == pixels_of(instance).sum() == pytest.approx(200, abs=25)
    assert instance.box_xywh == [5, 5, 20, 20]


def test_parts_with_one_label_and_group_are_one_instance():
    first = drawn("polygon", SQUARE, number=1, group_id=1)
    other = drawn("rectangle", [(30, 5), (40, 15)], number=2, group_id=1)
    (instance,) = convert(first, other)
    assert [len(part) for part in instance.segmentation] == [8, 8]
    assert instance.box_xywh == [5, 5, 35, 10]
    assert instance.area == 200
    assert instance.num_shapes == 2
    assert (pixels_of(instance) == filled(5, 5, 15, 15) | filled(30, 5, 40, 15)).all()


def test_overlapping_parts_are_counted_once():
    first = drawn("polygon", SQUARE, number=1, group_id=1)
    other = drawn("rectangle", [(10, 5), (20, 15)], number=2, group_id=1)
    (instance,) = convert(first, other)
    assert instance.area == 150 == pixels_of(instance).sum()


def test_a_group_with_a_mask_becomes_an_rle():
    first = drawn("polygon", SQUARE, number=1, group_id=0)
    (instance,) = convert(first, drawn_mask(np.ones((3, 4)), 30, 20, number=2, group_id=0))
    assert isinstance(instance.segmentation, dict)
    assert (pixels_of(instance) == filled(5, 5, 15, 15) | filled(30, 20, 34, 23)).all()
    assert instance.box_xywh == [5, 5, 29, 18]
    assert instance.area == 112


def test_other_label_other_group_or_no_group_are_instances_of_their_own():
    shapes = [
        drawn("polygon", SQUARE, number=1, group_id=1),
        drawn("polygon", SQUARE, number=2, group_id=1, label="dog"),
        drawn("polygon", SQUARE, number=3, group_id=2),
        drawn("polygon", SQUARE, number=4),
        drawn("polygon", SQUARE, number=5),
        drawn("polygon", SQUARE, number=6, group_id=1),
    ]
    instances = convert(*shapes)
    assert [(instance.label, instance.num_shapes) for instance in instances] == [
        ("cat", 2),
        ("dog", 1),
        ("cat", 1),
        ("cat", 1),
        ("cat", 1),
    ]


def test_no_shapes():
    assert convert() == []


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (drawn("polygon", SQUARE[:2]), "needs at least 3 points, got 2"),
        (drawn("rectangle", SQUARE[:1]), "needs 2 points .opposite corners., got 1"),
        (drawn("oriented_rectangle", SQUARE[:3]), "needs 4 points .corners., got 3"),
        (drawn("circle", SQUARE[:1]), "needs 2 points .its centre and a point on its rim., got 1"),
        (drawn("circle", [(5, 5), (5, 5)]), "covers no pixel"),
        (drawn("polygon", [(5, 5), (9, 9), (13, 13)]), "covers no pixel"),
        (drawn("rectangle", [(5, 5), (5, 30)]), "covers no pixel"),
        (drawn("polygon", [(60, 5), (70, 5), (70, 15)]), "lies wholly outside the image of 50 x 40 pixels"),
        (drawn("point", [(5, 5)]), r"shape 1 \(point 'cat'\) encloses no area.*--skip_unsupported"),
        (drawn("linestrip", SQUARE), r"linestrip 'cat'.*encloses no area"),
        (drawn("hexagram", SQUARE), r"hexagram 'cat'"),
        (drawn("mask", [(0, 0), (3, 3)]), "'mask' must be base64 text, got null"),
        (drawn("mask", [(0, 0), (3, 3)], mask="???"), "'mask' is not valid base64"),
        (drawn("mask", [(0, 0), (3, 3)], mask=base64.b64encode(b"no png").decode()), "'mask' is not a readable PNG"),
        (drawn("mask", [(0, 0), (3, 3)], mask=png_base64(np.ones((4, 4), np.uint8))[:60]), "'mask' is not a readable"),
        (drawn("mask", [(0, 0), (4, 3)], mask=png_base64(np.ones((4, 4), np.uint8))), "4 x 4 pixels, .* span 5 x 4"),
        (drawn("mask", [(0, 0)], mask=png_base64(np.ones((4, 4), np.uint8))), "needs 2 points"),
        (drawn_mask(np.zeros((4, 4)), 3, 3), "covers no pixel"),
        (drawn_mask(np.ones((4, 4)), 60, 3), "covers no pixel"),
    ],
)
def test_a_shape_that_is_no_object_is_named(shape, reason):
    with pytest.raises(DataError, match=reason):
        convert(drawn("polygon", SQUARE, number=9), shape)
