"""Columns of ground truth: sorted by pair, small, drawn when the size of the image is known."""

import numpy as np
import pytest

from sam3.data.instance_table import TableBuilder
from sam3.data.saco_truth import read_ground_truth
from sam3.errors import DataError
from sam3.ops import rle
from tests.eval.saco_files import HEIGHT, WIDTH, image, thing, truth, write

BOX, FAR = (5, 5, 10, 10), (30, 20, 10, 10)


@pytest.fixture
def read(tmp_path):
    return lambda content, *settings: read_ground_truth(write(tmp_path / "gt é.json", content), *settings)


def test_columns_of_a_file(read):
    content = truth(
        [image(7), image(3, exhaustive=0)], [thing(3, BOX), thing(7, FAR), thing(3, FAR, iscrowd=1)], (1, 4)
    )
    found = read(content)
    assert found.pair_ids.tolist() == [7, 3]
    assert found.exhaustive_pairs().tolist() == [7]
    assert found.other_pairs().tolist() == [3]
    assert found.category_ids.tolist() == [1, 4]
    assert found.sizes_of([3, 99]) == {3: (HEIGHT, WIDTH)}
    assert found.objects.pair_ids.tolist() == [3, 7]
    assert found.objects.shapes(0, 1) == [{"size": (HEIGHT, WIDTH), "counts": thing(3, BOX)["segmentation"]["counts"]}]
    boxes = read(content, "bbox").objects
    assert boxes.shapes(1, 2).tolist() == [thing(7, FAR)["bbox"]]


def test_instances_sorted_by_pair_keep_the_order_of_the_file(read):
    table = read(truth([image(7), image(3)], [thing(7, BOX), thing(3, BOX), thing(7, FAR)])).objects.by_pair()
    assert table.pair_ids.tolist() == [3, 7, 7]
    assert table.positions.tolist() == [1, 0, 2]
    assert table.bounds_of(np.array([7, 5, 3])) == [(1, 3), (1, 1), (0, 1)]
    areas = [rle.area({**mask, "size": list(mask["size"])}) for mask in table.shapes(1, 3)]
    assert areas == [100, 100]
    assert table.shapes(1, 1) == []


def test_an_image_too_large_for_any_number_is_named(read):
    with pytest.raises(DataError, match=r"gt é.json: images.0.: id, height or width is too large"):
        read(truth([image(1) | {"height": 10**30}], []))


def test_masks_are_checked_many_at_once_and_the_damaged_one_is_named():
    builder = TableBuilder("a.json", "annotations", "segm")
    sound = thing(1, BOX)["segmentation"]
    with pytest.raises(DataError, match=r"a.json: annotations\[333\]: segmentation: the runs"):
        for position in range(1000):
            builder.add(position, pair_id=1, category_id=1)
            damaged = {**sound, "counts": sound["counts"][:-2] + "0"}
            builder.add_shape(position, segmentation=damaged if position == 333 else sound)
    assert position < 600  # it did not have to read to the end


def test_polygons_wait_for_the_size_of_their_image():
    builder = TableBuilder("a.json", "", "bbox")
    for pair_id in (1, 2):
        builder.add(0, pair_id=pair_id, category_id=1, score=0.5)
        builder.add_shape(0, segmentation=[[1, 1, 5, 1, 5, 4, 1, 4]])
    table = builder.finish()
    assert table.undrawn_pairs() == {1, 2}
    table.draw({1: (10, 10)})
    assert table.boxes.tolist() == [[1, 1, 4, 3], [0, 0, 0, 0]]
