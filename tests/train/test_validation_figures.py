"""What is drawn after a validation, and what the settings leave out."""

import json
from types import SimpleNamespace

import pytest

from sam3.eval.confusion import ConfusionMatrix
from sam3.train.schema import TensorboardConfig
from sam3.train.validation_figures import draw_validation
from tests.data.coco_folder import write_coco_folder


class Recorder:
    """Stands in for TensorBoard."""

    def __init__(self) -> None:
        self.images, self.pr = {}, {}

    def image(self, tag, picture, step):
        self.images[tag] = (picture.shape, step)

    def precision_recall(self, tag, curve, step):
        self.pr[tag] = (curve, step)


@pytest.fixture
def validator(tmp_path):
    """A validation that found everything, in half of the cases with a low score."""
    data = write_coco_folder(tmp_path / "data", images=6, size=(40, 40), negatives=False) / "train"
    truth = json.loads((data / "annotations.json").read_text())
    records = [{**entry, "score": 0.2 + 0.7 * (entry["id"] % 2)} for entry in truth["annotations"]]
    (tmp_path / "coco_predictions_segm.json").write_text(json.dumps(records))
    return SimpleNamespace(
        with_masks=True,
        folder=tmp_path,
        ground_truth=truth,
        loader=SimpleNamespace(dataset=SimpleNamespace(img_folder=data / "images")),
        prediction_path=lambda kind: tmp_path / f"coco_predictions_{kind}.json",
    )


def draw(validator, **settings) -> Recorder:
    recorder = Recorder()
    draw_validation(recorder, validator, 7, settings=TensorboardConfig(log_dir="", **settings), score_threshold=0.5)
    return recorder


def test_everything_is_drawn_by_default(validator):
    recorder = draw(validator)
    assert set(recorder.images) == {f"Predictions/{number}" for number in range(4)}
    assert set(recorder.pr) == {"PR/all classes", "PR/red circle", "PR/red square", "PR/red triangle"}
    curve, step = recorder.pr["PR/all classes"]
    assert step == 7
    assert curve.precision.min() == 1  # every detection is right
    assert curve.recall[0] == 1
    assert 0.3 < curve.recall[50] < 0.7  # those with the high score


def test_the_confusion_matrix_is_drawn_where_one_was_written(validator):
    matrix = ConfusionMatrix("segm", ["a", "b"], ["a", "b"], [[3, 0, 1], [0, 2, 0]], asked=[4, 4], missed=[0, 1])
    (validator.folder / "confusion_matrix.json").write_text(json.dumps(matrix.to_dict()))
    shape, step = draw(validator, prediction_images=0, pr_curves=0).images["Confusion"]
    assert (shape[2], step) == (3, 7)


def test_settings_leave_things_out(validator):
    assert draw(validator, pr_curves=0).pr == {}
    assert set(draw(validator, pr_curves=1).pr) == {"PR/all classes", "PR/red circle"}
    assert len(draw(validator, prediction_images=1).images) == 1
    nothing = draw(validator, enabled=False)
    assert (nothing.images, nothing.pr) == ({}, {})
