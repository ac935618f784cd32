"""AP of masklets against pycocotools, whose images stand for pairs and whose boxes stand for tracks of one frame."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3.eval.masklet_ap import masklet_ap, match
from tests.eval.masklets import data, document, track

BOX, NEAR, FAR = (2, 2, 8, 8), (3, 2, 8, 8), (18, 6, 8, 8)
small = st.tuples(st.integers(0, 12), st.integers(0, 8), st.integers(1, 9), st.integers(1, 9))


@st.composite
def one_frame_sets(draw):
    where = st.tuples(st.integers(0, 1), st.sampled_from([1, 2]))
    objects = [
        track([box], video_id=video, category_id=category, iscrowd=crowd)
        for (video, category), box, crowd in draw(
            st.lists(st.tuples(where, small, st.sampled_from([0, 0, 1])), max_size=6)
        )
    ]
    found = [
        track([box], video_id=video, category_id=category, score=score / 10)
        for (video, category), box, score in draw(st.lists(st.tuples(where, small, st.integers(0, 10)), max_size=9))
    ]
    found += [  # likely matches, tied scores included
        track([(x + shift, y, w, h)], video_id=item["video_id"], category_id=item["category_id"], score=0.5)
        for item in objects
        for (x, y, w, h), shift in [(item["bboxes"][0], draw(st.integers(0, 1)))]
    ]
    return document(objects, num_videos=2, num_frames=1), found


@settings(max_examples=60, deadline=None)
@given(one_frame_sets())
def test_equals_pycocotools(sets):
    content, predictions = sets
    found = masklet_ap(data(content, predictions), ["bbox"]).to_dict()
    expected = pycocotools_ap(content, predictions, categories=True).mean()
    assert found["video_bbox_mAP_50_95"] == pytest.approx(expected, abs=1e-12)
    phrase = pycocotools_ap(content, predictions, categories=False)
    for name, value in (("50_95", phrase.mean()), ("50", phrase[0]), ("75", phrase[5])):
        assert found[f"video_bbox_phrase_ap_{name}"] == pytest.approx(value, abs=1e-12)


def pycocotools_ap(content, predictions, *, categories):
    """(10,) AP per threshold; without categories each (video, category) is an image of its own."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def image(item):
        return item["video_id"] if categories else 10 * item["video_id"] + item["category_id"]

    coco, results = COCO(), COCO()
    images = [{"id": number} for number in range(30)]
    for target, items in ((coco, content["annotations"]), (results, predictions)):
        annotations = [
            {
                "id": number,
                "image_id": image(item),
                "category_id": item["category_id"] if categories else 1,
                "bbox": item["bboxes"][0],
                "area": item["areas"][0],
                "iscrowd": item.get("iscrowd", 0),
                "score": item.get("score", 1.0),
            }
            for number, item in enumerate(items, start=1)
        ]
        target.dataset = {"images": images, "annotations": annotations, "categories": content["categories"]}
        with contextlib.redirect_stdout(io.StringIO()):
            target.createIndex()
    evaluation = COCOeval(coco, results, "bbox")
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    plain = evaluation.computeIoU

    def without_crowds(*where):  # masklets know no special overlap of crowds
        flags = [(item, item["iscrowd"]) for item in coco.dataset["annotations"]]
        for item, _ in flags:
            item["iscrowd"] = 0
        ious = plain(*where)
        for item, flag in flags:
            item["iscrowd"] = flag
        return ious

    evaluation.computeIoU = without_crowds
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    known = precision[:, :, precision[0, 0] > -1]
    return known.mean(axis=(1, 2)) if known.size else np.full(10, -1.0)


def test_without_predictions_ap_is_zero_and_without_objects_undefined():
    assert set(masklet_ap(data(document([track([BOX] * 3)]))).to_dict().values()) == {0.0}
    nothing_to_find = masklet_ap(data(document([]), [track([BOX] * 3, score=1.0)]))
    assert set(nothing_to_find.to_dict().values()) == {-1.0}
    only_a_crowd = document([track([BOX] * 3, iscrowd=1)])
    assert set(masklet_ap(data(only_a_crowd, [track([BOX] * 3, score=1.0)])).to_dict().values()) == {-1.0}


def test_only_a_hundred_masklets_of_a_pair_count():
    content = document([track([BOX] * 3)])
    wrong = [track([FAR] * 3, score=0.9) for _ in range(100)]
    right = track([BOX] * 3, score=0.8)
    assert masklet_ap(data(content, [*wrong[1:], right])).map["segm"] > 0.0
    assert masklet_ap(data(content, [*wrong, right])).map["segm"] == 0.0


def test_of_equal_overlaps_the_later_object_is_taken():
    ious = np.array([[0.8, 0.8], [0.0, 0.8]])  # if the later one were left, both detections would be right
    found = match(ious, np.array([0.9, 0.5]), np.array([False, False]))
    assert found.matched[0].tolist() == [True, False]


def test_predictions_of_a_phrase_outside_the_table_do_not_count_for_map():
    content = document([track([BOX] * 3)])
    right, unknown = track([BOX] * 3, score=0.5), track([FAR] * 3, category_id=77, score=0.9)
    found = masklet_ap(data(content, [right, unknown])).to_dict()
    assert found["video_mask_mAP_50_95"] == pytest.approx(1.0)
    assert found["video_mask_phrase_ap_50_95"] == pytest.approx(0.5)


def test_masks_and_boxes_are_judged_apart():
    item = track([BOX] * 3)
    shifted = item | {"bboxes": [list(NEAR)] * 3, "score": 1.0}
    found = masklet_ap(data(document([item]), [shifted]))
    assert found.map["segm"] == pytest.approx(1.0)
    assert 0 < found.map["bbox"] < 1
