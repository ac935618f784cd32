"""cgF1 of files: which pairs count, what is accepted, what is refused and how that is said."""

import copy
import json

import numpy as np
import pytest

from sam3.errors import DataError
from sam3.eval import cgf1_files
from sam3.eval.cgf1 import Outcome
from sam3.eval.cgf1_files import evaluate_files
from tests.eval.saco_files import HEIGHT, WIDTH, found, image, mask, thing, truth, write

BOX, FAR = (5, 5, 10, 10), (30, 20, 10, 10)


@pytest.fixture
def evaluate(tmp_path):
    def run(predictions, *truths, **settings):
        pred_file = write(tmp_path / "vorhersagen ü.json", predictions)
        gt_files = [write(tmp_path / f"wahrheit_{number}.json", content) for number, content in enumerate(truths)]
        return evaluate_files(pred_file, gt_files, keep_pairs=True, **settings)

    return run


def outcomes(evaluation):
    return {result.pair_id: result.outcome for result in evaluation.pairs}


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_the_four_outcomes(evaluate, iou_type):
    content = truth([image(number) for number in (4, 3, 2, 1)], [thing(1, BOX), thing(2, BOX)])
    evaluation = evaluate([found(1, BOX), found(3, BOX)], content, iou_type=iou_type)
    assert outcomes(evaluation) == {4: Outcome.TN, 3: Outcome.FP, 2: Outcome.FN, 1: Outcome.TP}
    assert evaluation.pairs[-1].judgement.ious == pytest.approx([1.0])
    assert evaluation.cgf1.totals.num_pairs == 4


def test_only_pairs_that_everybody_finished_count_and_the_rest_is_counted_as_ignored(evaluate):
    first = truth([image(1), image(2), image(3, exhaustive=0), image(4)], [])
    second = truth([image(4), image(2, exhaustive=0), image(1), image(3), image(9)], [])
    evaluation = evaluate([found(number, BOX) for number in (1, 2, 3, 77)], first, second)
    assert [result.pair_id for result in evaluation.pairs] == [1, 4]
    assert evaluation.num_ignored_pairs == 3


def test_the_kindest_annotator_is_chosen(evaluate):
    seen = [truth([image(1)], [thing(1, FAR)]), truth([image(1)], [thing(1, BOX)]), truth([image(1)], [])]
    (result,) = evaluate([found(1, BOX)], *seen).pairs
    assert (result.annotator, result.outcome) == (1, Outcome.TP)
    (result,) = evaluate([], *seen).pairs
    assert (result.annotator, result.outcome) == (2, Outcome.TN)


def test_crowds_are_left_out(evaluate):
    content = truth([image(1), image(2)], [thing(1, BOX, iscrowd=1), thing(2, BOX, iscrowd=1), thing(2, FAR)])
    evaluation = evaluate([found(1, BOX), found(2, FAR)], content)
    assert outcomes(evaluation) == {1: Outcome.FP, 2: Outcome.TP}
    assert evaluation.pairs[1].judgement.num_objects == 1


def test_duplicate_annotation_ids_are_two_objects(evaluate):
    (result,) = evaluate([], truth([image(1)], [thing(1, BOX, id=5), thing(1, FAR, id=5)])).pairs
    assert result.judgement.num_objects == 2


def test_categories_that_the_ground_truth_does_not_know_vanish(evaluate):
    content = truth([image(1), image(2)], [thing(1, BOX)], categories=(1, 3))
    evaluation = evaluate([found(1, BOX, category_id=3), found(2, BOX, category_id=2)], content)
    assert outcomes(evaluation) == {1: Outcome.TP, 2: Outcome.TN}


def test_polygons_and_runs_in_a_list_are_drawn_wherever_the_images_stand_in_the_file(evaluate):
    x, y, w, h = BOX
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    runs = {"size": [HEIGHT, WIDTH], "counts": [x * HEIGHT + y, h, HEIGHT * (WIDTH - x) - y - h]}
    content = truth([image(1), image(2)], [thing(1, BOX, segmentation=polygon), thing(2, BOX, segmentation=runs)])
    content = {"annotations": content.pop("annotations")} | content  # before the images that give the size
    evaluation = evaluate([found(1, BOX), found(2, (x, y, 1, h), segmentation=runs)], content)
    assert evaluation.pairs[0].judgement.ious.tolist() == [1.0]
    assert evaluation.pairs[1].judgement.ious.tolist() == [1.0]


def test_the_first_record_of_a_pair_decides_where_boxes_come_from(evaluate):
    content = truth([image(1)], [thing(1, BOX, bbox=[5.0, 5.0, 10.0, 10.0])])
    without = {key: value for key, value in found(1, BOX).items() if key != "bbox"}
    assert evaluate([without], content, iou_type="bbox").pairs[0].judgement.ious.tolist() == [1.0]  # in pixels
    with pytest.raises(DataError, match=r"ü.json: record 1: bbox is missing; the first record"):
        evaluate([found(1, BOX), without], content, iou_type="bbox")
    assert evaluate([found(1, BOX), without], content).pairs[0].judgement.num_predictions == 2


def test_a_record_without_mask_counts_as_its_box_in_pixels(evaluate):
    content = truth([image(1)], [thing(1, BOX)])
    only_box = {"image_id": 1, "category_id": 1, "score": 1, "bbox": list(map(float, BOX))}
    assert evaluate([only_box], content).pairs[0].judgement.ious.tolist() == [1.0]
    with pytest.raises(DataError, match="record 1: segmentation is missing"):
        evaluate([{**found(1, BOX), "bbox": []}, only_box], content)
    unsized = copy.deepcopy(content)
    del unsized["images"][0]["height"]
    with pytest.raises(DataError, match=r"wahrheit_0.json: images gives no height and width of these pairs.*: 1"):
        evaluate([only_box], unsized)


def test_masks_of_another_size_never_match(evaluate):
    other = found(1, BOX, segmentation=mask(*BOX, size=(HEIGHT + 1, WIDTH)))
    assert evaluate([other], truth([image(1)], [thing(1, BOX)])).pairs[0].judgement.ious.tolist() == [-1.0]


def test_an_annotator_that_lacks_a_pair(evaluate, caplog):
    seen = truth([image(1), image(2)], [thing(1, BOX)]), truth([image(2)], [])
    with pytest.raises(DataError, match=r"wahrheit_1.json: images lacks these pairs, which have predictions: 1;"):
        evaluate([found(1, BOX, 0.1)], *seen)
    assert outcomes(evaluate([], *seen)) == {1: Outcome.TN, 2: Outcome.TN}
    assert "wahrheit_1.json: images lacks these pairs; they count as pairs without objects" in caplog.text


def test_nothing_to_evaluate_is_said(evaluate):
    for images in ([], [image(1, exhaustive=0)]):
        with pytest.raises(DataError, match="so there is nothing to evaluate"):
            evaluate([], truth(images, []))


DAMAGED = {"size": [HEIGHT, WIDTH], "counts": "X7"}
BAD_RECORDS = {
    "score must be a finite number, got 'high'": {"score": "high"},
    "score must be a finite number, got nan": {"score": float("nan")},
    "score must be a finite number, got inf": {"score": float("inf")},
    "score must be a finite number, got True": {"score": True},
    "image_id must be a whole number, got None": {"image_id": None},
    "image_id must be a whole number, got 1000000000000000000000": {"image_id": 10**21},
    "category_id must be a whole number, got 'cat'": {"category_id": "cat"},
    "segmentation: the runs of an RLE must be non-negative and add up": {"segmentation": DAMAGED},
    "segmentation: the counts of an RLE hold a character": {"segmentation": {"size": [4, 5], "counts": "é"}},
    "segmentation.size must be": {"segmentation": {"size": [HEIGHT, -1], "counts": "1"}},
    "segmentation: a polygon needs at least 3 points": {"segmentation": [[1, 2, 3, 4]]},
    "segmentation: a segmentation must be": {"segmentation": 7},
}


@pytest.mark.parametrize("message", BAD_RECORDS)
def test_a_wrong_prediction_is_named(evaluate, message):
    records = [found(1, BOX), found(1, FAR) | BAD_RECORDS[message]]
    with pytest.raises(DataError, match=rf"ü.json: record 1: {message}"):
        evaluate(records, truth([image(1)], []))


def test_a_record_that_does_not_count_must_be_sound_all_the_same(evaluate):
    for change, message in (
        ({"category_id": "cat"}, "category_id must be"),
        ({"image_id": 10**21}, "image_id must be"),
    ):
        with pytest.raises(DataError, match=f"record 0: {message}"):
            evaluate([found(1, BOX, 0.1) | change], truth([image(1)], []))


BAD_OBJECTS = {
    "annotations[1]: image_id 9 is not listed in images": {"image_id": 9},
    "annotations[1]: segmentation is missing": {"segmentation": None},
    "annotations[1]: segmentation: the runs of an RLE": {"segmentation": DAMAGED},
    "annotations[1]: image_id must be a whole number": {"image_id": "1"},
}


@pytest.mark.parametrize("message", BAD_OBJECTS)
def test_a_wrong_annotation_is_named(evaluate, message):
    with pytest.raises(DataError, match="wahrheit_0.json: ") as raised:
        evaluate([], truth([image(1)], [thing(1, BOX), thing(1, FAR) | BAD_OBJECTS[message]]))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([image(1), image(1)], "images lists these ids more than once: 1"),
        ([image(1) | {"is_instance_exhaustive": None}], "images[0]: is_instance_exhaustive must be 0 or 1, got None"),
        ([{}], "images[0]: id must be a whole number, got None"),
        (["x"], "images[0] must be an object, got str"),
        ([image(1) | {"height": 1.5}], "images[0]: height must be a whole number, got 1.5"),
    ],
)
def test_a_wrong_pair_is_named(evaluate, images, message):
    with pytest.raises(DataError) as raised:
        evaluate([], truth(images, []))
    assert message in str(raised.value)


def test_boxes_that_are_no_boxes_are_named(evaluate):
    for box in ([0, 0, 1], [0, 0, 1, "1"], [0, 0, 1, float("nan")], 5):
        with pytest.raises(DataError, match="record 0: bbox must be four finite numbers"):
            evaluate([found(1, BOX, bbox=box)], truth([image(1)], []), iou_type="bbox")


def test_files_of_another_kind_are_named(evaluate):
    with pytest.raises(DataError, match="expected a JSON list, got an object"):
        evaluate(truth([], []), truth([image(1)], []))
    with pytest.raises(DataError, match="expected a JSON object, got a list"):
        evaluate([], [found(1, BOX)])
    with pytest.raises(DataError, match="lacks categories"):
        evaluate([], {"images": [], "annotations": []})
    with pytest.raises(DataError, match="iou_type is 'mask'"):
        evaluate([], truth([], []), iou_type="mask")


def test_cut_off_files_are_named(evaluate, tmp_path):
    evaluate([found(1, BOX)], truth([image(1)], [thing(1, BOX)]))
    files = tmp_path / "vorhersagen ü.json", tmp_path / "wahrheit_0.json"
    for path in files:
        whole = path.read_text()
        path.write_text(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=f"{path.name} is not valid JSON"):
            evaluate_files(files[0], files[1:])
        path.write_text(whole)


def random_files(generator, num_pairs=700):
    def boxes():
        count = generator.integers(0, 4) * generator.integers(0, 2)
        return [tuple(map(int, generator.integers(1, 20, 4))) for _ in range(count)]

    images = [image(number) for number in range(num_pairs)]
    seen = [truth(images, [thing(i, box) for i in range(num_pairs) for box in boxes()]) for _ in range(3)]
    records = [found(i, box, round(float(generator.random()), 5)) for i in range(num_pairs) for box in boxes()]
    return [records[i] for i in generator.permutation(len(records))], seen


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_several_processes_give_the_same_numbers_to_the_last_digit(evaluate, iou_type, monkeypatch):
    monkeypatch.setattr(cgf1_files, "_PAIRS_AT_ONCE", 100)
    records, seen = random_files(np.random.default_rng(3))
    alone, together = (evaluate(records, *seen, iou_type=iou_type, workers=workers) for workers in (1, 2))
    assert json.dumps(alone.cgf1.to_dict()) == json.dumps(together.cgf1.to_dict())
    assert [r.mean_local_f1s for r in alone.pairs] == [r.mean_local_f1s for r in together.pairs]
    assert 0 < alone.cgf1.to_dict()[f"cgF1_eval_{iou_type}_cgF1"] < 1


def test_an_error_in_another_process_keeps_its_message(evaluate):
    with pytest.raises(DataError, match="record 0: score must be"):
        evaluate([found(1, BOX, "?")], truth([image(1)], []), workers=2)
