"""Each outline is rasterised by pycocotools and compared with the shape's own definition at the pixel centres,
and with the way Labelme itself draws (Pillow): they may differ only along the boundary, by one pixel."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import ndimage

from sam3.ops import rle
from sam3.ops.polygons import (
    circle_outline,
    clip_outline,
    outlines_to_box_xywh,
    quadrilateral_outline,
    rectangle_outline,
)

HEIGHT, WIDTH = 60, 80
COORDINATES = st.tuples(st.floats(-30, 110, width=32), st.floats(-30, 90, width=32))


def rasterise(outline: np.ndarray, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return rle.decode(rle.from_polygons([outline.reshape(-1).tolist()], height, width))


def pixel_centres() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return x, y


def inside_by_crossings(outline: np.ndarray) -> np.ndarray:
    """Even-odd rule at the pixel centres, for any polygon."""
    x, y = pixel_centres()
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (y0 <= y) != (y1 <= y)
            inside ^= crosses & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return inside


def drawn_by_pillow(points: np.ndarray, kind: str) -> np.ndarray:
    canvas = Image.new("1", (WIDTH, HEIGHT))
    draw = getattr(ImageDraw.Draw(canvas), kind)
    draw([tuple(point) for point in points], outline=1, fill=1)
    return np.asarray(canvas)


def assert_equal_but_for_the_boundary(mask: np.ndarray, expected: np.ndarray) -> None:
    """Every pixel that differs touches (by side or corner) both a pixel inside and one outside of ``expected``."""
    square = np.ones((3, 3), bool)
    padded = np.pad(expected, 1, mode="edge")
    boundary = (ndimage.binary_dilation(padded, square) & ~ndimage.binary_erosion(padded, square))[1:-1, 1:-1]
    assert not ((mask != expected) & ~boundary).any()


@pytest.mark.parametrize(
    "corners", [[(10, 5), (30, 25)], [(30, 25), (10, 5)], [(10, 25), (30, 5)], [(30, 5), (10, 25)]]
)
def test_rectangle_from_any_two_opposite_corners(corners):
    outline = rectangle_outline(np.array(corners, float))
    assert outline.tolist() == [[10, 5], [30, 5], [30, 25], [10, 25]]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[5:25, 10:30] = True
    assert (rasterise(outline) == expected).all()
    assert outlines_to_box_xywh([outline]) == [10, 5, 20, 20]
    assert_equal_but_for_the_boundary(rasterise(outline), drawn_by_pillow(np.array([(10, 5), (30, 25)]), "rectangle"))


@pytest.mark.parametrize("corners", [[(10.3, 5.7), (30.6, 25.2)], [(0, 0), (80, 60)], [(3.5, 3.5), (5.5, 5.5)]])
def test_rectangle_between_pixels(corners):
    (x0, y0), (x1, y1) = corners
    x, y = pixel_centres()
    expected = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    assert_equal_but_for_the_boundary(rasterise(rectangle_outline(np.array(corners))), expected)


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 133, 271])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 1, 3), (2, 0, 3, 1)])
def test_turned_rectangle_from_corners_in_any_order(degrees, order):
    angle, (cx, cy), (half_width, half_height) = math.radians(degrees), (40.2, 29.7), (22.0, 9.0)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    upright = np.array([(-half_width, -half_height), (half_width, -half_height)])
    corners = np.concatenate([upright, -upright]) @ turn + (cx, cy)
    outline = quadrilateral_outline(corners[list(order)])
    x, y = pixel_centres()
    across, along = turn @ np.stack([x - cx, y - cy]).reshape(2, -1)
    expected = ((np.abs(across) < half_width) & (np.abs(along) < half_height)).reshape(HEIGHT, WIDTH)
    assert expected.sum() > 700
    assert_equal_but_for_the_boundary(rasterise(outline), expected)
    assert_equal_but_for_the_boundary(rasterise(outline), drawn_by_pillow(outline, "polygon"))


@pytest.mark.parametrize(
    ("center", "radius"), [((40, 30), 20), ((40.4, 30.7), 7.3), ((12.5, 12.5), 2.2), ((0, 0), 25), ((70, 50), 90)]
)
@pytest.mark.parametrize("rim_angle", [0.0, 0.7, 4.0])
def test_circle(center, radius, rim_angle):
    rim = (center[0] + radius * math.cos(rim_angle), center[1] + radius * math.sin(rim_angle))
    outline = circle_outline(center, rim)
    x, y = pixel_centres()
    expected = (x - center[0]) ** 2 + (y - center[1]) ** 2 < radius**2
    assert_equal_but_for_the_boundary(rasterise(outline), expected)
    assert outlines_to_box_xywh([outline]) == pytest.approx(
        [center[0] - radius, center[1] - radius, 2 * radius, 2 * radius], abs=1e-9
    )
    assert rasterise(outline).sum() == pytest.approx(expected.sum(), abs=max(4, 0.5 * radius))


def test_the_sides_of_a_circle_stay_within_the_tolerance():
    for radius in (0.01, 1, 10, 1000, 1e5):
        outline = circle_outline((0, 0), (radius, 0))
        middles = (outline + np.roll(outline, -1, axis=0)) / 2
        assert np.hypot(*outline.T) == pytest.approx(np.full(len(outline), radius))
        assert (radius - np.hypot(*middles.T)).max() <= 0.0501
    assert (circle_outline((3, 4), (3, 4)) == (3, 4)).all()


def test_a_disc_equals_what_labelme_draws_but_for_the_boundary():
    outline = circle_outline((40, 30), (55, 30))
    assert_equal_but_for_the_boundary(rasterise(outline), drawn_by_pillow(np.array([(25, 15), (55, 45)]), "ellipse"))


@settings(max_examples=150, deadline=None)
@given(st.lists(COORDINATES, min_size=3, max_size=7))
def test_any_polygon_is_cut_at_the_image_and_nowhere_else(points):
    outline = np.array(points, dtype=np.float64)
    clipped = clip_outline(outline, HEIGHT, WIDTH)
    if len(clipped):
        assert (clipped >= 0).all()
        assert (clipped <= (WIDTH, HEIGHT)).all()
    differing = inside_by_crossings(clipped) != inside_by_crossings(outline)
    x, y = pixel_centres()
    for row, column in zip(*np.nonzero(differing), strict=True):  # ties only: a side runs through the centre
        assert distance_to_outline(x[row, column], y[row, column], outline) < 1e-6


@settings(max_examples=80, deadline=None)
@given(st.lists(COORDINATES, min_size=3, max_size=6))
def test_any_polygon_is_rasterised_within_one_pixel(points):
    clipped = clip_outline(np.array(points, dtype=np.float64), HEIGHT, WIDTH)
    mask = rasterise(clipped) if len(clipped) >= 3 else np.zeros((HEIGHT, WIDTH), bool)
    differing = mask != inside_by_crossings(np.array(points, dtype=np.float64))
    x, y = pixel_centres()
    for row, column in zip(*np.nonzero(differing), strict=True):
        assert distance_to_outline(x[row, column], y[row, column], np.array(points)) < 1.0


def distance_to_outline(x: float, y: float, outline: np.ndarray) -> float:
    starts, ends = outline, np.roll(outline, -1, axis=0)
    sides = ends - starts
    lengths = np.maximum((sides**2).sum(1), 1e-12)
    along = np.clip((((x, y) - starts) * sides).sum(1) / lengths, 0, 1)
    return float(np.hypot(*((starts + along[:, None] * sides) - (x, y)).T).min())


def test_an_outline_inside_is_unchanged_and_one_outside_vanishes():
    inside = np.array([(0.1, 0.25), (80, 60), (3.3333333333333335, 59.9)])
    assert (clip_outline(inside, HEIGHT, WIDTH) == inside).all()
    assert clip_outline(inside + 200, HEIGHT, WIDTH).shape == (0, 2)
    assert clip_outline(inside - 200, HEIGHT, WIDTH).shape == (0, 2)


def test_a_clipped_rectangle_has_exact_corners_and_box():
    clipped = clip_outline(rectangle_outline(np.array([(-5, 50), (15, 70)])), HEIGHT, WIDTH)
    assert sorted(clipped.tolist()) == [[0, 50], [0, 60], [15, 50], [15, 60]]
    assert outlines_to_box_xywh([clipped]) == [0, 50, 15, 10]


def test_arguments_are_not_changed():
    corners = np.array([(30.0, 25.0), (-10.0, 5.0)])
    before = corners.copy()
    clip_outline(rectangle_outline(corners), HEIGHT, WIDTH)
    clip_outline(corners, HEIGHT, WIDTH)
    assert (corners == before).all()


def test_box_of_several_outlines():
    boxes = [rectangle_outline(np.array([(1, 2), (3, 4)])), rectangle_outline(np.array([(10, 1), (12, 3)]))]
    assert outlines_to_box_xywh(boxes) == [1, 1, 11, 3]
