"""Polygons of masks: exact by two independent rasterisers, also with holes and touching corners."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sam3.ops.contours import mask_polygons, mask_rings, simplify_polygon


def picture(*rows: str) -> NDArray[np.bool_]:
    return np.array([[character == "#" for character in row] for row in rows])


def filled(polygons: list[NDArray], shape: tuple[int, int], *, rule: str) -> NDArray[np.bool_]:
    """Pixel centres inside, by counting the crossings of a ray to the left: an independent check of both fill rules."""
    centre_y, centre_x = np.indices(shape) + 0.5
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        winding, crossings = np.zeros(shape, int), np.zeros(shape, int)
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            assert x0 == x1 or y0 == y1, "edges follow the pixel grid"
            crossed = (x0 < centre_x) & (min(y0, y1) < centre_y) & (centre_y < max(y0, y1))
            winding += crossed * int(np.sign(y1 - y0))
            crossings += crossed
        inside |= (crossings % 2 == 1) if rule == "even-odd" else (winding != 0)
    return inside


def assert_exact(mask: NDArray[np.bool_]) -> None:
    from pycocotools import mask as coco

    polygons = mask_polygons(mask)
    for rule in ("even-odd", "non-zero"):
        np.testing.assert_array_equal(filled(polygons, mask.shape, rule=rule), mask, err_msg=rule)
    if polygons:
        flat = [polygon.astype(float).ravel().tolist() for polygon in polygons]
        flat = [points if len(points) > 4 else points * 2 for points in flat]
        decoded = coco.decode(coco.merge(coco.frPyObjects(flat, *mask.shape)))
        np.testing.assert_array_equal(decoded.astype(bool), mask, err_msg="pycocotools")


def test_an_empty_mask_has_no_polygon() -> None:
    assert mask_polygons(np.zeros((3, 4), bool)) == []
    assert mask_rings(np.zeros((0, 4), bool)) == []


def test_one_pixel_is_its_square() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    (polygon,) = mask_polygons(mask)
    assert polygon.tolist() == [[2, 1], [3, 1], [3, 2], [2, 2]]
    assert mask_polygons(np.ones((1, 1), bool))[0].tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_a_full_mask_is_its_border() -> None:
    assert mask_polygons(np.ones((5, 7), bool))[0].tolist() == [[0, 0], [7, 0], [7, 5], [0, 5]]


def test_a_hole_is_a_ring_of_its_own_and_a_slit_in_the_polygon() -> None:
    mask = picture("####", "#..#", "#..#", "####")
    outer, hole = mask_rings(mask)
    assert (outer.is_hole, hole.is_hole) == (False, True)
    assert _signed_area(outer.points) == 16
    assert _signed_area(hole.points) == -4
    (polygon,) = mask_polygons(mask)
    assert _signed_area(polygon) == mask.sum()
    assert_exact(mask)


@pytest.mark.parametrize(
    ("rows", "regions"),
    [
        (("#.", ".#"), 1),
        ((".#", "#."), 1),
        (("#.#", ".#.", "#.#"), 1),
        (("###", "#.#", "##."), 1),
        (("#####", "#.#.#", "#####", "#.#.#", "#####"), 1),
        (("####", "#.##", "##.#", "####"), 1),
        (("####", "##.#", "#.##", "####"), 1),
        (("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"), 2),
        (("#.#.#",), 3),
        (("#", ".", "#"), 2),
        (("..#..", ".#.#.", "#...#", ".#.#.", "..#.."), 1),
    ],
)
def test_corners_that_touch_and_nested_holes(rows: tuple[str, ...], regions: int) -> None:
    mask = picture(*rows)
    assert len(mask_polygons(mask)) == regions
    assert_exact(mask)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_noise_of_every_density_is_exact(density: float) -> None:
    generator = np.random.default_rng(int(density * 100))
    for _ in range(12):
        height, width = generator.integers(1, 24, 2)
        assert_exact(generator.random((height, width)) < density)


def test_long_chains_of_holes_do_not_recurse() -> None:
    mask = np.ones((3, 4001), bool)
    mask[1, 1::2] = False
    (polygon,) = mask_polygons(mask)
    assert _signed_area(polygon) == mask.sum()


def test_simplification_straightens_stairs_and_keeps_the_shape() -> None:
    y, x = np.indices((120, 150))
    disc = (x - 75) ** 2 + (y - 60) ** 2 < 50**2
    (exact,) = mask_polygons(disc)
    simple = simplify_polygon(exact, 1.0)
    assert len(simple) < len(exact) / 5
    assert abs(_signed_area(simple) - disc.sum()) < 0.03 * disc.sum()
    distance = np.abs(np.hypot(simple[:, 0] - 75, simple[:, 1] - 60) - 50)
    assert distance.max() < 2


def test_simplification_keeps_a_rectangle_and_drops_points_on_its_sides() -> None:
    corners = [[0, 0], [9, 0], [9, 4], [0, 4]]
    assert simplify_polygon(np.array(corners), 2.0).tolist() == corners
    with_middles = [[9, 2], [9, 4], [5, 4], [0, 4], [0, 0], [4, 0], [9, 0]]
    assert sorted(simplify_polygon(np.array(with_middles), 0.0).tolist()) == sorted(corners)


def test_simplification_keeps_the_slit_closed() -> None:
    y, x = np.indices((100, 100))
    radius = np.hypot(x - 50, y - 50)
    ring = (radius < 45) & (radius > 20)
    simple = simplify_polygon(mask_polygons(ring)[0], 1.0)
    assert abs(_signed_area(simple) - ring.sum()) < 0.03 * ring.sum()
    _, counts = np.unique(simple, axis=0, return_counts=True)
    assert (counts == 2).sum() == 2  # the two ends of the slit


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(H, W\), got \(2, 3, 4\)"):
        mask_polygons(np.zeros((2, 3, 4), bool))


def _signed_area(points: NDArray) -> float:
    x, y = points[:, 0].astype(float), points[:, 1].astype(float)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
