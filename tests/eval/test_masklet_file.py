"""Masklet predictions: read and checked, written, merged."""

import json

import numpy as np
import pytest

from sam3.data.saco_video import ground_truth_of
from sam3.errors import DataError
from sam3.eval.masklet_file import masklet_record, merge_masklets, read_masklets, write_masklets
from sam3.ops import rle
from tests.eval.masklets import HEIGHT, WIDTH, document, mask, track

BOX, EMPTY = (2, 2, 8, 8), mask((0, 0, 0, 0))
TRUTH = ground_truth_of(document([]))


def read(*records):
    return read_masklets(list(records), TRUTH)


def test_zeros_and_nulls_mean_the_same():
    zeros = track([BOX, BOX, BOX], score=0.5)
    zeros["bboxes"][1], zeros["segmentations"][1], zeros["areas"][1] = [0, 0, 0, 0], EMPTY, 0
    nulls = track([BOX, None, BOX], score=0.5)
    for found in read(zeros, nulls):
        assert found.present().tolist() == [True, False, True]
        assert found.masks.areas.tolist() == [64, 0, 64]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"areas": [0, 64, 64]}, [False, True, True]),
        ({"bboxes": [[0, 0, 0, 0], [2, 2, 8, 8], None]}, [False, True, False]),
        ({"areas": [None, 64, 64]}, [True, True, True]),  # that of the mask
        ({"areas": [5, 5, 5], "segmentations": [EMPTY] * 3}, [True, True, True]),  # the file's word counts
    ],
)
def test_a_frame_is_present_with_an_area_and_a_box(change, expected):
    assert read(track([BOX] * 3, score=0.5) | change)[0].present().tolist() == expected


def test_areas_that_are_left_out_are_those_of_the_masks_or_boxes():
    record = track([BOX, None, BOX], score=0.5)
    del record["areas"]
    record["segmentations"][0] = EMPTY
    assert read(record)[0].present().tolist() == [False, False, True]
    del record["segmentations"]
    assert read(record)[0].present().tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": float("nan")}, "score is nan, expected a finite number"),
        ({"score": None}, "score is None"),
        ({"score": "0.5"}, "score is '0.5'"),
        ({"video_id": 9}, "video_id 9 is not among the videos of the ground truth"),
        ({"category_id": None}, "category_id is None, expected a whole number"),
        ({"bboxes": [None] * 4, "areas": [None] * 4}, "bboxes has 4 entries, but video 0 has 3 frames"),
        ({"bboxes": [[1, 2, float("inf"), 3], None, None]}, "bboxes: frame 0 has"),
        ({"areas": [1, 2]}, "areas must be a list of 3 numbers"),
        ({"areas": [1, 2, -3]}, "areas must be a list of 3 numbers"),
        ({"areas": [1, 2, "x"]}, "areas must be a list of 3 numbers"),
        ({"areas": 5}, "areas is int, expected a list with one entry per frame"),
        ({"segmentations": [mask(BOX, 9, 9)] * 3}, r"are of size \[9, 9\], but video 0 is \[20, 30\]"),
        ({"segmentations": [mask(BOX) | {"counts": "5" * 9}] * 3}, "mask 0: the runs of an RLE"),
        ({"segmentations": [[[1, 2, 3, 4, 5, 6]]] * 3}, r"segmentations\[0\]: expected an RLE with size and counts"),
    ],
)
def test_faults_are_named_by_file_entry_and_field(change, message, tmp_path):
    path = tmp_path / "pred.json"
    good = track([BOX] * 3, score=0.5)
    path.write_text(json.dumps([good, {**good, **change}]))
    with pytest.raises(DataError, match=message) as stopped:
        read_masklets(path, TRUTH)
    assert str(stopped.value).startswith(f"{path}: masklet 1")


@pytest.mark.parametrize("text", ["", "{}", "[", '[{"video_id": 0', "[1]"])
def test_a_file_that_is_no_list_of_masklets_is_named(text, tmp_path):
    path = tmp_path / "pred.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"pred\.json"):
        read_masklets(path, TRUTH)


def test_a_record_comes_back_as_it_was_made(tmp_path):
    canvas = np.zeros((3, HEIGHT, WIDTH), dtype=bool)
    canvas[0, 2:10, 2:10] = True
    canvas[2, 4, 5] = True
    record = masklet_record(video_id=0, category_id=2, score=0.75, masks=[canvas[0], None, rle.encode(canvas[2])])
    assert record["bboxes"] == [[2, 2, 8, 8], [0, 0, 0, 0], [5, 4, 1, 1]]  # full width, also of a single pixel
    assert record["areas"] == [64, 0, 1]
    assert record["segmentations"][1] == EMPTY
    write_masklets(tmp_path / "vorhersage ü.json", [record])
    found = read_masklets(tmp_path / "vorhersage ü.json", TRUTH)[0]
    assert (found.video_id, found.category_id, found.score) == (0, 2, 0.75)
    assert found.present().tolist() == [True, False, True]
    assert [rle.decode({"size": [HEIGHT, WIDTH], "counts": text}).sum() for text in found.masks.counts()] == [64, 0, 1]


def test_boxes_can_be_given_and_scores_of_frames_go_along():
    record = masklet_record(
        video_id=0,
        category_id=1,
        score=1,
        masks=[mask(BOX)],
        boxes_xyxy=np.array([[2, 2, 9.5, 10]]),
        per_frame_scores=[0.25],
    )
    assert (record["bboxes"], record["per_frame_scores"]) == ([[2, 2, 7.5, 8]], [0.25])


def test_records_that_do_not_fit_together_are_refused():
    ids = {"video_id": 0, "category_id": 1, "score": 1}
    with pytest.raises(DataError, match=r"must be of one size, got none"):
        masklet_record(**ids, masks=[None, None])
    with pytest.raises(DataError, match=r"must be of one size, got \[\(9, 9\), \(20, 30\)\]"):
        masklet_record(**ids, masks=[mask(BOX), mask((0, 0, 1, 1), 9, 9)])
    with pytest.raises(DataError, match=r"differ in length: \[1, 2\]"):
        masklet_record(**ids, masks=[mask(BOX)], per_frame_scores=[1, 2])


def test_a_pair_that_an_earlier_process_has_is_skipped():
    def record(video, category, score):
        return {"video_id": video, "category_id": category, "score": score}

    first = [record(0, 1, 0.1), record(0, 2, 0.2), record(0, 1, 0.3)]
    second = [record("0", 1, 0.4), record(1, 1, 0.5), record(1, 1, 0.6)]
    merged = list(merge_masklets([first, second, first]))
    assert [item["score"] for item in merged] == [0.1, 0.2, 0.3, 0.5, 0.6]
