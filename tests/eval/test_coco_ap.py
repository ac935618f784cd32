"""COCO AP against hand-made cases and, where present, the reference's numbers."""

import copy
import json

import numpy as np
import pytest

from sam3.errors import DataError
from sam3.eval import coco_ap as module
from sam3.eval.coco_ap import ENGINES, METRICS
from sam3.ops import rle

BOX = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}


def coco_ap(*arguments, **settings):
    """Every test holds for both engines, which give the same numbers."""
    definition, fast = (module.coco_ap(*arguments, engine=engine, **settings) for engine in ENGINES)
    assert fast.to_dict() == pytest.approx(definition.to_dict(), abs=1e-12)
    assert fast.per_class.keys() == definition.per_class.keys()
    for name, entry in definition.per_class.items():
        assert (fast.per_class[name].ap, fast.per_class[name].ap_75) == pytest.approx(
            (entry.ap, entry.ap_75), abs=1e-12
        )
    return fast


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


BAD_RECORDS = [
    ({**BOX, "image_id": 9}, "bbox", "is for image 9, which the ground truth does not list"),
    ({"image_id": 1, "category_id": 1, "score": 1}, "bbox", "lacks bbox"),
    ({**BOX, "score": float("nan")}, "bbox", "score must be a finite number, got nan"),
    ({**BOX, "score": "0.5"}, "bbox", "score must be a finite number, got '0.5'"),
    ({**BOX, "bbox": [0, 0, 1]}, "bbox", "bbox must be four finite numbers"),
    ({**BOX, "bbox": [0, 0, 1, float("inf")]}, "bbox", "bbox must be four finite numbers"),
    ({**BOX, "bbox": [0, 0, 1, "1"]}, "bbox", "bbox must be four finite numbers"),
    ("x", "bbox", "must be an object"),
    ({"image_id": 1, "category_id": 1, "score": 1}, "segm", "lacks bbox"),
]


@pytest.mark.parametrize(("record", "iou_type", "message"), BAD_RECORDS)
def test_a_bad_record_is_named(record, iou_type, message):
    for engine in ENGINES:
        with pytest.raises(DataError) as raised:
            module.coco_ap(_truth([]), [BOX, record], iou_type, engine=engine)
        assert f"the predictions[1] {message}" in str(raised.value)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (_box(9, 1, [0, 0, 1, 1]), "names image 9, which is not listed"),
        (_box(1, 1, None), "bbox must be four finite numbers"),
        (_box(1, 1, [0, 0, 1, 1], area="big"), "area must be a number, got 'big'"),
    ],
)
def test_a_bad_annotation_is_named(annotation, message):
    with pytest.raises(DataError) as raised:
        module.coco_ap(_truth([annotation]), [])
    assert f"the ground truth: annotations[0] {message}" in str(raised.value)


def test_damaged_masks_are_named():
    damaged = {"size": [80, 100], "counts": "X7"}
    with pytest.raises(DataError, match="annotations: segmentation of mask 0: the runs"):
        module.coco_ap(_truth([_box(1, 1, [0, 0, 1, 1], segmentation=damaged)]), [], "segm")
    record = {"image_id": 1, "category_id": 1, "segmentation": damaged, "score": 1}
    with pytest.raises(DataError, match="predictions: segmentation of mask 0: the runs"):
        module.coco_ap(_truth([]), [record], "segm")


def test_other_bad_input_is_named():
    with pytest.raises(DataError, match="iou_type is 'mask'"):
        module.coco_ap(_truth([]), [], "mask")
    with pytest.raises(DataError, match="engine is 'slow'"):
        module.coco_ap(_truth([]), [], engine="slow")
    with pytest.raises(DataError, match="list of COCO result records, got dict"):
        module.coco_ap(_truth([]), {"image_id": 1})
    with pytest.raises(DataError, match="categories.0. must be an object with an id"):
        module.coco_ap({**_truth([]), "categories": [{}]}, [])
    with pytest.raises(DataError, match="must be a COCO dictionary"):
        module.coco_ap([], [])


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


def random_case(seed):
    """Ties in scores and overlaps, crowds, other sizes, cells with more than 100 detections, empty ones."""
    generator = np.random.default_rng(seed)

    def boxes(count):
        return np.concatenate([generator.integers(0, 40, (count, 2)), generator.integers(0, 40, (count, 2))], axis=1)

    annotations = [
        _box(int(generator.integers(1, 3)), int(generator.integers(1, 4)), box.tolist(), id=number,
             iscrowd=int(generator.random() < 0.2), segmentation=_mask(*box))
        for number, box in enumerate(boxes(int(generator.integers(0, 25))))
    ]  # fmt: skip
    if seed % 2:
        annotations = [{**entry, "area": float(generator.choice([5, 32**2, 96**2, 2e4]))} for entry in annotations]
    near = [np.maximum(np.array(a["bbox"]) + generator.integers(-2, 3, 4), 0) for a in annotations for _ in range(3)]
    records = [
        {"image_id": int(generator.integers(1, 3)), "category_id": int(generator.integers(1, 5)),
         "bbox": list(map(float, box)), "segmentation": _mask(*box), "score": float(generator.integers(0, 9)) / 8}
        for box in [*near, *boxes(int(generator.integers(0, 400)))]
    ]  # fmt: skip
    return _truth(annotations, categories=("bolt", "nut", "nut")), records


@pytest.mark.parametrize("seed", range(12))
def test_the_fast_engine_equals_the_definition_on_random_cases(seed):
    truth, records = random_case(seed)
    for iou_type in ("bbox", "segm"):
        for positive_split in (False, True):
            coco_ap(truth, records, iou_type, positive_split=positive_split)
    if len(records) > 3:
        coco_ap(truth, [{k: v for k, v in record.items() if k != "bbox"} for record in records], "segm")
