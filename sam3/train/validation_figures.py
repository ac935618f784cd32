"""What TensorBoard shows of a validation beside its numbers: pictures and precision-recall curves."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sam3.eval.confusion import BACKGROUND, CONFUSION_FILE, ConfusionMatrix
from sam3.eval.hits import Hits, find_hits, precision_recall
from sam3.eval.prediction_file import Record, read_predictions
from sam3.io.files import read_json
from sam3.train.logging_setup import Curves
from sam3.train.matrix_picture import matrix_picture
from sam3.train.prediction_images import choose_images, compare
from sam3.train.schema import TensorboardConfig

if TYPE_CHECKING:
    from sam3.train.validation import Validator


def draw_validation(
    curves: Curves, validator: "Validator", epoch: int, *, settings: TensorboardConfig, score_threshold: float
) -> None:
    """Everything that is drawn after a validation, from the files that it wrote."""
    if not settings.enabled:
        return
    _confusion(curves, validator.folder / CONFUSION_FILE, epoch)
    if not settings.prediction_images and not settings.pr_curves:
        return
    iou_type = "segm" if validator.with_masks else "bbox"
    records = read_predictions(validator.prediction_path(iou_type))
    _pictures(curves, validator, records, epoch, count=settings.prediction_images, score_threshold=score_threshold)
    if settings.pr_curves:
        _precision_recall(curves, validator, find_hits(validator.ground_truth, records, iou_type), epoch, settings)


def _confusion(curves: Curves, path: Path, epoch: int) -> None:
    """What the detections of each phrase lie on."""
    if path.is_file():
        matrix = ConfusionMatrix.from_dict(read_json(path))
        curves.image("Confusion", matrix_picture(matrix.prompts, [*matrix.classes, BACKGROUND], matrix.counts), epoch)


def _pictures(
    curves: Curves, validator: "Validator", records: list[Record], epoch: int, *, count: int, score_threshold: float
) -> None:
    """The same validation images every time, ground truth left, predictions right."""
    truth, folder = validator.ground_truth, validator.loader.dataset.img_folder
    for index, image in enumerate(choose_images(truth, count)):
        curves.image(f"Predictions/{index}", compare(image, folder, truth, records, score_threshold), epoch)


def _precision_recall(
    curves: Curves, validator: "Validator", hits: dict[int, Hits], epoch: int, settings: TensorboardConfig
) -> None:
    """All classes together, and the first ``pr_curves`` of those that have objects."""
    curves.precision_recall("PR/all classes", precision_recall(_together(hits)), epoch)
    names = {category["id"]: str(category["name"]) for category in validator.ground_truth["categories"]}
    present = [category_id for category_id, own in hits.items() if own.num_objects]
    if len(present) > 1:
        for category_id in present[: settings.pr_curves]:
            curves.precision_recall(f"PR/{names[category_id]}", precision_recall(hits[category_id]), epoch)


def _together(hits: dict[int, Hits]) -> Hits:
    """The detections of all categories as those of one."""
    parts = list(hits.values())
    columns = (np.concatenate([getattr(own, name) for own in parts]) for name in ("image_ids", "scores", "ious"))
    return Hits(*columns, objects={index: own.num_objects for index, own in enumerate(parts)})
