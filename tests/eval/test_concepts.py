"""cgF1 and wrong prompts from COCO dictionaries and result records."""

import numpy as np
import pytest

from sam3.eval.concepts import ConceptTruth, judge_concepts
from sam3.ops import rle

SIZE = (20, 30)


def box_mask(x, y, w, h):
    mask = np.zeros(SIZE, bool)
    mask[y : y + h, x : x + w] = True
    return rle.encode(mask)


def annotation(image_id, category_id, box, **others):
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "segmentation": box_mask(*box), **others}


def record(image_id, category_id, box, score=0.9):
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "segmentation": box_mask(*box),
        "score": score,
    }


def coco(*annotations, images=2, categories=("red circle", "blue square")):
    return {
        "images": [{"id": i + 1, "height": SIZE[0], "width": SIZE[1]} for i in range(images)],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(categories)],
        "annotations": list(annotations),
    }


ASKED = [(1, 1), (1, 2), (2, 1), (2, 2), (1, -1), (2, -3)]
BOX = [2, 2, 8, 8]


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_perfect_answers(iou_type):
    truth = ConceptTruth.of(coco(annotation(1, 1, BOX), annotation(2, 2, BOX)), iou_type)
    result = judge_concepts(truth, [record(1, 1, BOX), record(2, 2, BOX), record(1, -1, BOX, 0.49)], ASKED)
    values = result.to_dict()
    assert values[f"cgF1_eval_{iou_type}_IL_MCC"] == pytest.approx(1.0, abs=1e-5)
    assert values[f"cgF1_eval_{iou_type}_cgF1"] == pytest.approx(1.0, abs=1e-3)
    assert values["wrong_prompt_rate_classes"] == values["wrong_prompt_rate_general"] == 0
    assert (result.wrong_classes.asked, result.wrong_general.asked) == (2, 2)
    assert result.is_defined


def test_wrong_prompts_are_counted_by_pair_and_by_kind():
    truth = ConceptTruth.of(coco(annotation(1, 1, BOX)), "segm")
    wrong = [record(1, 2, BOX), record(1, 2, BOX, 0.5), record(2, -3, BOX), record(2, 2, BOX, 0.4)]
    result = judge_concepts(truth, [record(1, 1, BOX), *wrong], ASKED)
    assert (result.wrong_classes.fired, result.wrong_classes.asked) == (1, 3)
    assert (result.wrong_general.fired, result.wrong_general.asked) == (1, 2)
    # of six pairs: 1 true positive, 2 false positives, 3 true negatives
    assert result.cgf1.il_mcc == pytest.approx((1 * 3 - 0) / np.sqrt(3 * 1 * 5 * 3), abs=1e-5)
    assert result.cgf1.il_fpr == pytest.approx(2 / 5, abs=1e-5)


def test_pairs_that_cannot_be_judged_are_left_out():
    without_mask = annotation(2, 1, BOX) | {"segmentation": []}
    truth = coco(annotation(1, 1, BOX), annotation(1, 2, BOX, iscrowd=1), without_mask)
    result = judge_concepts(ConceptTruth.of(truth, "segm"), [record(1, 2, BOX)], ASKED)
    assert result.cgf1.totals.num_pairs == 4
    assert result.wrong_classes.fired == 0
    assert judge_concepts(ConceptTruth.of(truth, "bbox"), [], ASKED).cgf1.totals.num_pairs == 5


def test_pairs_asked_twice_count_once_and_unasked_ones_not_at_all():
    truth = ConceptTruth.of(coco(annotation(1, 1, BOX)), "segm")
    result = judge_concepts(truth, [record(2, 2, BOX)], [(1, 1), (1, 1), (1, 2)])
    assert (result.cgf1.totals.num_pairs, result.wrong_classes.fired) == (2, 0)


def test_undefined_without_negatives_or_without_positives():
    truth = ConceptTruth.of(coco(annotation(1, 1, BOX), annotation(2, 1, BOX)), "segm")
    only_positive = judge_concepts(truth, [record(1, 1, BOX)], [(1, 1), (2, 1)])
    assert not only_positive.is_defined
    assert "wrong_prompt_rate_classes" not in only_positive.to_dict()
    assert only_positive.wrong_general.rate == -1
    assert not judge_concepts(truth, [], [(1, 2), (2, 2)]).is_defined
    assert judge_concepts(truth, [], [(1, 1), (1, -1)]).is_defined
    assert not judge_concepts(truth, [], []).is_defined
