"""Reading COCO files: records, boxes at the border, masks, and everything that can be wrong."""

import copy
import json
import logging

import numpy as np
import pytest

from sam3.data.coco import category_chunks, read_coco, records_of
from sam3.errors import DataError
from sam3.ops import rle

VALID = {
    "images": [
        {"id": 2, "file_name": "b.png", "width": 60, "height": 40},
        {"id": 1, "file_name": "ä/a.png", "width": 20, "height": 10},
    ],
    "annotations": [
        {
            "id": 5,
            "image_id": 2,
            "category_id": 9,
            "bbox": [10, 5, 20, 10],
            "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]],
        },
        {"id": 6, "image_id": 2, "category_id": 4, "bbox": [-6, 30, 20, 15], "iscrowd": 1, "segmentation": []},
        {"id": 7, "image_id": 2, "category_id": 9, "bbox": [1, 2, 3, 4], "iscrowd": 0},
    ],
    "categories": [{"id": 9, "name": "cat"}, {"id": 4, "name": "dog"}],
}


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "annotations.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def test_images_and_categories_are_sorted_by_id(write):
    first, second = records_of(read_coco(write(VALID)))
    assert (first.image_id, first.file_name, first.height, first.width) == (1, "ä/a.png", 10, 20)
    assert [(q.category_id, q.phrase, q.object_indices) for q in first.queries] == [(4, "dog", ()), (9, "cat", ())]
    assert [(q.category_id, q.object_indices) for q in second.queries] == [(4, (0,)), (9, (1, 2))]
    assert [item.is_crowd for item in second.objects] == [True, False, False]
    assert second.objects[2].box == (1.0, 2.0, 4.0, 6.0)
    assert second.objects[2].area == pytest.approx(12 / 2400)
    assert list(read_coco(write(VALID)).categories.values()) == ["dog", "cat"]


def test_boxes_are_cut_at_the_border(write):
    outside = records_of(read_coco(write(VALID)))[1].objects[0]
    assert outside.box == (0.0, 30.0, 14.0, 40.0)
    assert outside.area == pytest.approx(140 / 2400)


def test_the_reference_rule_moves_boxes_instead(write):
    outside = records_of(read_coco(write(VALID)), box_rule="reference")[1].objects[0]
    assert outside.box == pytest.approx((0.0, 30.0, 20.0, 45.0))
    assert outside.area == pytest.approx(300 / 2400)


def test_without_negatives_a_record_can_ask_for_nothing(write):
    first, second = records_of(read_coco(write(VALID)), include_negatives=False)
    assert first.queries == ()
    assert len(second.queries) == 2


def test_chunks_hold_their_own_objects_only(write):
    records = records_of(read_coco(write(VALID)), category_chunk_size=1)
    assert [(r.image_id, [q.category_id for q in r.queries], len(r.objects)) for r in records] == [
        (1, [4], 0),
        (1, [9], 0),
        (2, [4], 1),
        (2, [9], 2),
    ]
    assert records[3].queries[0].object_indices == (0, 1)


def test_category_chunks():
    assert category_chunks([1, 2, 3], None) == [[1, 2, 3]]
    assert category_chunks([1, 2, 3], 2) == [[1, 2], [3]]
    with pytest.raises(DataError, match="at least 1"):
        category_chunks([1], 0)


def test_every_kind_of_mask_becomes_the_same_rle(write):
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:15, 10:30] = True
    runs = [10 * 40 + 5] + [10, 30] * 19 + [10, 29 * 40 + 25 + 40 - 40 + 0]
    runs[-1] = 2400 - sum(runs[:-1])
    content = copy.deepcopy(VALID)
    content["annotations"][1]["segmentation"] = {"size": [40, 60], "counts": runs}
    content["annotations"][2]["segmentation"] = dict(rle.encode(mask))
    masks = [item.mask for item in records_of(read_coco(write(content)))[1].objects]
    assert masks == [rle.encode(mask)] * 3
    assert [item.mask for item in records_of(read_coco(write(content)), with_masks=False)[1].objects] == [None] * 3


def test_empty_and_null_masks_are_no_masks(write):
    content = copy.deepcopy(VALID)
    content["annotations"][2]["segmentation"] = None
    assert [item.mask is None for item in records_of(read_coco(write(content)))[1].objects] == [True, False, True]


def test_boxes_without_area_are_counted_in_a_warning(write, caplog):
    content = copy.deepcopy(VALID)
    content["annotations"][0]["bbox"] = [100, 100, 5, 5]
    with caplog.at_level(logging.WARNING):
        assert records_of(read_coco(write(content)))[1].objects[1].area == 0
    assert "1 boxes have no area inside their image (first: b.png)" in caplog.text


def _drop(kind, index, key):
    return lambda content: content[kind][index].pop(key)


def _set(kind, index, key, value):
    return lambda content: content[kind][index].__setitem__(key, value)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_drop("images", 0, "width"), r"images\[0\] lacks width"),
        (_drop("images", 1, "file_name"), r"images\[1\] lacks file_name"),
        (_set("images", 0, "height", 0), "image 2 .*width and height"),
        (_set("images", 0, "id", 1), "id 1 appears more than once in images"),
        (_set("images", 0, "id", "1"), "ids must be whole numbers"),
        (_set("categories", 0, "id", 4), "id 4 appears more than once in categories"),
        (_drop("categories", 0, "name"), r"categories\[0\] lacks name"),
        (lambda content: content.update(categories=[]), "no categories"),
        (_set("annotations", 1, "id", 5), "id 5 appears more than once in annotations"),
        (_set("annotations", 0, "category_id", 8), r"annotation 5 has the category 8, .* categories \[4, 9\]"),
        (_set("annotations", 0, "image_id", 8), "annotation 5 belongs to image 8"),
        (_drop("annotations", 0, "bbox"), "annotation 5 lacks bbox"),
        (_set("annotations", 0, "bbox", [1, 2, 3]), r"annotation 5 of image 2 \(b.png\): bbox must be"),
        (_set("annotations", 0, "bbox", [1, 2, -3, 4]), "not negative in size"),
        (_set("annotations", 0, "bbox", [1, 2, float("nan"), 4]), "finite"),
        (_set("annotations", 0, "segmentation", [[1, 2, 3, 4]]), "annotation 5 .*at least 3 points"),
        (_set("annotations", 0, "segmentation", {"size": [4, 6], "counts": [24]}), r"the mask has the size \[4, 6\]"),
        (_set("annotations", 0, "segmentation", "polygon"), "annotation 5 .*got str"),
        (lambda content: content["annotations"].append(3), r"annotations\[3\] must be an object"),
        (lambda content: content.pop("annotations"), "missing: annotations"),
    ],
)
def test_a_broken_file_is_named_with_its_entry(write, break_it, message):
    content = copy.deepcopy(VALID)
    break_it(content)
    path = write(content)
    with pytest.raises(DataError, match=message) as raised:
        records_of(read_coco(path))
    assert str(path) in str(raised.value)


def test_files_that_are_no_coco_file(write, tmp_path):
    with pytest.raises(DataError, match="not valid JSON"):
        read_coco(write("{"))
    with pytest.raises(DataError, match="not a COCO annotation file"):
        read_coco(write("[]"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_coco(tmp_path / "none.json")
