"""cgF1 of videos: which pairs exist, and what each counts."""

import pytest

from sam3.data.saco_video import PairId
from sam3.eval.cgf1 import Outcome
from sam3.eval.video_cgf1 import video_cgf1
from tests.eval.masklets import data, document, track

BOX, APART = (2, 2, 8, 8), (18, 6, 8, 8)


def outcomes(sets):
    return {pair: judged.outcome for pair, judged in video_cgf1(sets, ["segm"]).pairs["segm"].items()}


def test_pairs_are_those_of_annotations_predictions_and_the_list():
    content = document([track([BOX] * 3)], categories=(1, 2, 3, 4, 5), pairs=[(0, 5), (0, 2), (0, 1)])
    found = outcomes(
        data(content, [track([BOX] * 3, category_id=2, score=0.5), track([BOX] * 3, category_id=3, score=0.1)])
    )
    assert found == {
        PairId(0, 1): Outcome.FN,
        PairId(0, 2): Outcome.FP,
        PairId(0, 3): Outcome.TN,  # its only prediction is below the threshold
        PairId(0, 5): Outcome.TN,
    }


def test_crowds_are_dropped():
    found = outcomes(data(document([track([BOX] * 3, iscrowd=1)]), [track([BOX] * 3, score=1.0)]))
    assert found[PairId(0, 1)] is Outcome.FP


def test_a_perfect_set_with_a_negative_has_one():
    numbers = video_cgf1(data(document([track([BOX] * 3)]), [track([BOX] * 3, score=1.0)])).to_dict()
    assert len(numbers) == 18
    assert list(numbers.values()) == pytest.approx([1.0] * 18, abs=2e-4)


def test_the_image_level_is_reported_where_no_object_is_found():
    """The reference divides cgF1 by pmF1, which is 0 here, and writes NaN."""
    content = document([track([BOX] * 3)])
    numbers = video_cgf1(data(content, [track([APART] * 3, score=1.0)])).to_dict()
    for at in ("50_95", "50", "75"):
        assert numbers[f"video_mask_demo_positive_micro_f1_{at}"] == 0.0
        assert numbers[f"video_mask_demo_ilmcc_{at}"] == pytest.approx(1.0, abs=1e-5)


def test_numbers_of_a_pair():
    """One of two objects is found with IoU 2 / 3; one prediction is false."""
    content = document([track([BOX] * 3), track([APART] * 3)])
    found = [track([BOX, BOX, None], score=1.0), track([(0, 15, 3, 3)] * 3, score=1.0)]
    row = video_cgf1(data(content, found), ["segm"]).pair_dicts()[PairId(0, 1)]
    assert {key: row[f"mask_{key}_50"] for key in ("TP", "FP", "FN", "F1")} == {"TP": 1, "FP": 1, "FN": 1, "F1": 0.5}
    assert (row["mask_TP_75"], row["mask_F1_75"], row["mask_TP_50_95"]) == (0.0, 0.0, 0.4)
    negative = video_cgf1(data(content, found), ["segm"]).pair_dicts()[PairId(0, 2)]
    assert (negative["mask_TP_50"], negative["mask_F1_50_95"]) == (0.0, 1.0)


def test_without_a_list_of_pairs_there_are_no_rates():
    content = document([track([BOX] * 3)])
    del content["video_np_pairs"]
    found = video_cgf1(data(content))
    assert (found.to_dict(), found.pair_dicts()) == ({}, {})
