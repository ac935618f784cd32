"""COCO AP against hand-made cases and, where present, the reference's numbers."""

import copy
import json

import numpy as np
import pytest

from sam3.errors import DataError
from sam3.eval.coco_ap import METRICS, coco_ap
from sam3.ops import rle


def _truth(annotations, categories=("bolt", "nut")):
    return {
        "images": [{"id": 1, "width": 100, "height": 80}, {"id": 2, "width": 100, "height": 80}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, start=1)],
        "annotations": annotations,
    }


def _box(image_id, category_id, box, **extra):
    return {"id": extra.pop("id", 1), "image_id": image_id, "category_id": category_id, "bbox": box, **extra}


def _mask(x, y, w, h):
    mask = np.zeros((80, 100), dtype=bool)
    mask[y : y + h, x : x + w] = True
    return rle.encode(mask)


def test_perfect_and_missed_objects_by_hand():
    truth = _truth([_box(1, 1, [10, 10, 20, 20]), _box(2, 2, [5, 5, 30, 30], id=2), _box(1, 2, [50, 50, 20, 20], id=3)])
    found = [
        {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9},
        {"image_id": 2, "category_id": 2, "bbox": [5, 5, 30, 30], "score": 0.8},
    ]
    result = coco_ap(truth, found)
    # bolt: 1. nut: precision 1 up to recall 0.5 = 51 of the 101 recall points.
    assert result.per_class["bolt"].ap == pytest.approx(1.0)
    assert result.per_class["nut"].ap == pytest.approx(51 / 101)
    assert result.ap == pytest.approx((1 + 51 / 101) / 2)
    assert result.ap_large == -1.0
    assert list(result.to_dict()) == [f"coco_eval_bbox_{name}" for name in METRICS]
    assert result.to_dict()["coco_eval_bbox_AP"] == result.ap


def test_mask_ap_counts_masks_not_boxes():
    truth = _truth([_box(1, 1, [10, 10, 40, 40], segmentation=_mask(10, 10, 40, 40))])
    half = [{"image_id": 1, "category_id": 1, "segmentation": _mask(10, 10, 40, 24), "score": 0.9}]
    result = coco_ap(truth, half, "segm")
    assert result.ap_50 == pytest.approx(1.0)  # IoU 0.6
    assert result.ap_75 == 0.0
    assert result.ap == pytest.approx(0.3)  # thresholds 0.5, 0.55, 0.6


def test_annotation_id_zero_is_an_object_like_any_other():
    found = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}]
    assert coco_ap(_truth([_box(1, 1, [10, 10, 20, 20], id=0)]), found).ap == pytest.approx(1.0)


def test_nothing_predicted_and_nothing_to_find():
    truth = _truth([_box(1, 1, [10, 10, 20, 20])])
    nothing = coco_ap(truth, [])
    assert nothing.ap == 0.0
    assert nothing.per_class["nut"].ap == -1.0
    found = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}]
    assert set(coco_ap(_truth([]), found).to_dict().values()) == {-1.0}
    assert set(coco_ap(_truth([]), []).to_dict().values()) == {-1.0}


def test_object_without_mask_is_ignored_by_mask_ap():
    truth = _truth(
        [_box(1, 1, [10, 10, 20, 20], segmentation=_mask(10, 10, 20, 20)), _box(1, 1, [50, 50, 20, 20], id=2)]
    )
    found = [
        {"image_id": 1, "category_id": 1, "segmentation": _mask(50, 50, 20, 20), "score": 0.95},
        {"image_id": 1, "category_id": 1, "segmentation": _mask(10, 10, 20, 20), "score": 0.9},
    ]
    assert coco_ap(truth, found, "segm").ap == pytest.approx(1.0)


def test_inputs_are_not_modified():
    truth = _truth([_box(1, 1, [10, 10, 20, 20], segmentation=[[10, 10, 30, 10, 30, 30, 10, 30]])])
    found = [{"image_id": 1, "category_id": 1, "segmentation": _mask(10, 10, 20, 20), "score": 0.9}]
    before = copy.deepcopy((truth, found))
    coco_ap(truth, found, "segm")
    assert (truth, found) == before


@pytest.mark.parametrize(
    ("predictions", "iou_type", "message"),
    [
        ([], "mask", "iou_type is 'mask'"),
        ([{"image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "bbox", "image 9"),
        ([{"image_id": 1, "category_id": 1, "score": 1}], "bbox", "lacks bbox"),
        ({"image_id": 1}, "bbox", "list of COCO result records"),
    ],
)
def test_bad_input_is_named(predictions, iou_type, message):
    with pytest.raises(DataError, match=message):
        coco_ap(_truth([]), predictions, iou_type)


def test_files_are_accepted_and_broken_ones_named(tmp_path):
    gt, found = tmp_path / "gt é.json", tmp_path / "pred.json"
    gt.write_text(json.dumps(_truth([_box(1, 1, [10, 10, 20, 20])])))
    found.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}]))
    assert coco_ap(gt, found).ap == pytest.approx(1.0)
    found.write_text("[{")
    with pytest.raises(DataError, match="pred.json"):
        coco_ap(gt, found)


@pytest.mark.parity
@pytest.mark.parametrize("variant", ["bbox", "segm", "bbox_positive_split", "segm_positive_split"])
def test_reference_numbers(shared, variant):
    folder = shared / "golden/eval/coco"
    expected = json.loads((folder / "expected.json").read_text())[variant]
    iou_type = variant.split("_")[0]
    result = coco_ap(folder / "gt.json", folder / "pred.json", iou_type, positive_split="positive" in variant)
    assert result.to_dict() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parity
def test_reference_corner_cases(shared):
    for case in json.loads((shared / "golden/eval/coco/corner_cases.json").read_text()):
        arguments = {k: v for k, v in case["kwargs"].items() if k in ("iou_type", "positive_split")}
        if "raises" in case["expected"] and not case["preds"]:  # the reference stops; ours has a defined answer
            assert coco_ap(case["gt"], [], **arguments).ap == 0.0, case["name"]
        elif "raises" in case["expected"]:
            with pytest.raises(DataError):
                coco_ap(case["gt"], case["preds"], **arguments)
        else:
            result = coco_ap(case["gt"], case["preds"], **arguments).to_dict()
            assert result == pytest.approx(case["expected"], abs=1e-9), case["name"]
