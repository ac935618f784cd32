"""cgF1 against hand-made cases and a slow definition."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3.eval.cgf1 import METRICS, Outcome, Pair, Totals, evaluate, judge, kindest, total
from sam3.ops import rle
from tests.eval import definition

SIDE = 4


def box_pair(found, *annotators, scores=None, **settings):
    def boxes(values):
        return np.asarray(values, dtype=float).reshape(-1, 4)

    return Pair(1, boxes(found), scores or [0.9] * len(found), [boxes(objects) for objects in annotators], **settings)


def test_a_perfect_pair_and_a_negative_one():
    positive = box_pair([[0, 0, 10, 10]], [[0, 0, 10, 10]])
    result = evaluate([positive, box_pair([], [])], "bbox").to_dict()
    f1 = 2 * (1 / 1.0001) ** 2 / (2 / 1.0001 + 1e-4)
    assert result["cgF1_eval_bbox_positive_micro_F1"] == pytest.approx(f1)
    assert result["cgF1_eval_bbox_IL_MCC"] == pytest.approx(1, abs=1e-5)
    assert result["cgF1_eval_bbox_cgF1"] == pytest.approx(f1, abs=1e-5)


def test_the_keys_have_their_published_names_and_order():
    names = [metric.name for metric in METRICS]
    assert len(names) == 26
    assert names[:3] == ["cgF1", "precision", "recall"]
    assert names[7:13] == ["IL_precision", "IL_recall", "IL_F1", "IL_FPR", "IL_MCC", "cgF1@0.5"]
    assert names[-1] == "positive_micro_precision@0.75"
    assert [metric.name for metric in METRICS if metric.image_level] == names[7:12]


def test_scores_at_the_threshold_count():
    pair = box_pair([[0, 0, 10, 10], [20, 0, 10, 10]], [[0, 0, 10, 10]], scores=[0.5, 0.49999])
    assert judge(pair).judgement.num_predictions == 1


def test_every_threshold_has_its_own_counts():
    judged = judge(box_pair([[0, 0, 10, 10], [50, 50, 1, 1]], [[0, 0, 10, 7]])).judgement
    assert judged.true_positives().tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert judged.false_positives().tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    assert judged.false_negatives().tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("f1s", "expected"),
    [((0.2, 0.5, 0.5), 1), ((0.5, 0.5), 0), ((None, 0.9), 0), ((0.9, None), 1), ((None, 0.3, None), 2), ((0.0,), 0)],
)
def test_the_kindest_annotator(f1s, expected):
    assert kindest(f1s) == expected


def test_false_alarms_on_negative_pairs_spare_the_positive_precision():
    pairs = [box_pair([[0, 0, 10, 10]], [[0, 0, 10, 10]]), box_pair([[0, 0, 5, 5]], [])]
    result = evaluate(pairs, "bbox").to_dict()
    assert result["cgF1_eval_bbox_precision"] == pytest.approx(0.5, abs=1e-4)
    assert result["cgF1_eval_bbox_positive_micro_precision"] == pytest.approx(1, abs=2e-4)


def test_predictions_of_categories_that_an_annotator_does_not_know_vanish_for_that_annotator():
    accepted = [np.array([False]), np.array([True])]
    judged = judge(box_pair([[0, 0, 9, 9]], [[0, 0, 9, 9]], [[0, 0, 9, 9]], accepted=accepted))
    assert judged.annotator == 1
    assert judged.outcome is Outcome.TP
    assert judge(box_pair([[0, 0, 9, 9]], [], accepted=[np.array([False])])).outcome is Outcome.TN


def test_nothing_at_all():
    result = evaluate([]).to_dict()
    assert result["cgF1_eval_segm_positive_macro_F1"] == -1
    assert result["cgF1_eval_segm_cgF1"] == 0


def test_mcc_does_not_overflow():
    totals = Totals(outcomes={Outcome.TP: 300_000, Outcome.FP: 1, Outcome.TN: 1_100_000, Outcome.FN: 1})
    assert totals.result("segm").il_mcc == pytest.approx(1, abs=1e-5)


def test_totals_of_parts_add_up():
    pairs = [box_pair([[0, 0, 10, 10]], [[0, 0, 10, 8]]), box_pair([[0, 0, 1, 1]], []), box_pair([], [[0, 0, 2, 2]])]
    results = [judge(pair) for pair in pairs]
    together, parts = total(results), total(results[:1])
    parts.merge(total(results[1:]))
    assert parts.result("bbox").to_dict() == together.result("bbox").to_dict()
    assert parts.num_pairs == 3


masks = st.sets(st.tuples(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1)), max_size=6).map(frozenset)
scores = st.sampled_from([0.0, 0.49999, 0.5, 0.7, 1.0])
annotators = st.lists(st.lists(masks, max_size=3), min_size=1, max_size=3)
pairs_of_masks = st.lists(st.tuples(st.lists(st.tuples(scores, masks), max_size=4), annotators), max_size=5)


def as_rle(mask):
    array = np.zeros((SIDE, SIDE), dtype=bool)
    for row, column in mask:
        array[row, column] = True
    return rle.encode(array)


@given(pairs_of_masks)
@settings(max_examples=60, deadline=None)
def test_the_slow_definition(pairs):
    fast = [
        Pair(
            number,
            [as_rle(mask) for _, mask in predictions],
            [score for score, _ in predictions],
            [[as_rle(mask) for mask in objects] for objects in annotators],
        )
        for number, (predictions, annotators) in enumerate(pairs)
    ]
    result = {name.removeprefix("cgF1_eval_segm_"): value for name, value in evaluate(fast).to_dict().items()}
    slow = definition.cgf1(pairs)
    assert set(slow) == set(result)
    # Assignments of equal sum may differ in their parts, so only what is unique is compared where there are any.
    if all(_unique(predictions, objects) for predictions, annotators in pairs for objects in annotators):
        for name, value in slow.items():
            assert math.isclose(result[name], value, abs_tol=1e-9), name


def _unique(predictions, objects):
    found = [mask for score, mask in predictions if score >= 0.5]
    if not found or not objects:
        return True
    ious = [[definition.pixel_iou(d, g) for g in objects] for d in found]
    return definition.is_unique(ious)
