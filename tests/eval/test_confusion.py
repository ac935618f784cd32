"""What the detections of each phrase lie on."""

import json

from sam3.eval.concepts import ConceptTruth
from sam3.eval.confusion import GENERAL, ConfusionMatrix, confusion_matrix
from tests.eval.test_concepts import annotation, coco, record

PHRASES = {1: "red circle", 2: "blue square"}
HERE, THERE, NOWHERE = [0, 0, 10, 10], [15, 5, 10, 10], [0, 14, 6, 6]
TRUTH = coco(annotation(1, 1, HERE), annotation(1, 2, THERE), annotation(2, 2, HERE), images=2)
ASKED = [(1, 1), (1, 2), (2, 1), (2, 2), (1, -1), (2, -7), (1, -2)]


def _matrix(records, asked=ASKED, truth=TRUTH, iou_type="segm"):
    return confusion_matrix(ConceptTruth.of(truth, iou_type), records, asked, PHRASES)


def test_rows_are_prompts_and_columns_what_they_hit():
    found = [
        record(1, 1, HERE),  # right
        record(1, 1, THERE),  # calls the blue square a red circle
        record(1, 2, NOWHERE),  # background
        record(2, 1, HERE),  # calls the blue square a red circle
        record(2, -7, HERE),  # a general phrase on the blue square
        record(1, -1, NOWHERE),
        record(1, -2, NOWHERE, 0.49),  # not confident
        record(2, -1, HERE),  # not asked
    ]
    for iou_type in ("segm", "bbox"):
        matrix = _matrix(found, iou_type=iou_type)
        assert matrix.prompts == ["red circle", "blue square", GENERAL]
        assert matrix.classes == ["red circle", "blue square"]
        assert matrix.counts == [[1, 2, 0], [0, 0, 1], [0, 1, 1]]
        assert matrix.asked == [2, 2, 3]
        assert matrix.missed == [0, 2]


def test_a_detection_counts_for_its_best_object_and_among_equals_for_its_own_class():
    same_place = coco(annotation(1, 1, HERE), annotation(1, 2, HERE), images=1)
    matrix = _matrix([record(1, 2, HERE)], [(1, 1), (1, 2)], same_place)
    assert matrix.counts == [[0, 0, 0], [0, 1, 0]]
    nearer = coco(annotation(1, 1, HERE), annotation(1, 2, [1, 0, 10, 10]), images=1)
    assert _matrix([record(1, 2, HERE)], [(1, 2)], nearer).counts == [[0, 0, 0], [1, 0, 0]]


def test_half_an_overlap_lies_on_the_object():
    exactly_half = [record(1, 1, [0, 0, 10, 5])]
    assert _matrix(exactly_half, [(1, 1)]).counts[0] == [1, 0, 0]
    assert _matrix([record(1, 1, [0, 0, 10, 4])], [(1, 1)]).counts[0] == [0, 0, 1]


def test_nothing_found_and_nothing_there():
    assert _matrix([]).counts == [[0] * 3] * 3
    assert _matrix([]).missed == [1, 2]
    empty = _matrix([record(1, 1, HERE)], [(1, 1)], coco(images=1))
    assert (empty.counts, empty.missed, empty.prompts) == ([[0, 0, 1], [0, 0, 0]], [0, 0], list(PHRASES.values()))
    assert _matrix([], []).asked == [0, 0]


def test_the_file_can_be_read_again():
    matrix = _matrix([record(1, 1, HERE)])
    assert ConfusionMatrix.from_dict(json.loads(json.dumps(matrix.to_dict()))) == matrix
