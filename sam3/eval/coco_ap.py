"""COCO average precision of boxes or masks, as pycocotools defines it.

A pure function: ground truth and predictions in, numbers out. Source: spec/evaluation.md section 4.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from sam3.errors import DataError
from sam3.eval.coco_fast import Curves, precision_and_recall
from sam3.eval.coco_input import CocoInput, Objects, read_coco
from sam3.eval.prediction_file import Record

ENGINES = ("pycocotools", "fast")

# The twelve numbers in the order of pycocotools' summary.
METRICS = (
    "AP", "AP_50", "AP_75", "AP_small", "AP_medium", "AP_large",
    "AR_maxDets@1", "AR_maxDets@10", "AR_maxDets@100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


@dataclass(frozen=True)
class ClassAp:
    """AP of one category; -1 where it has no ground truth."""

    ap: float
    ap_50: float
    ap_75: float


@dataclass(frozen=True)
class CocoAp:
    """The twelve COCO numbers in [0, 1]; -1 where there is nothing to find (spec/evaluation.md 4)."""

    iou_type: str
    ap: float
    ap_50: float
    ap_75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    per_class: dict[str, ClassAp] = field(default_factory=dict)  # category name -> AP

    def to_dict(self) -> dict[str, float]:
        """Keys ``coco_eval_<iou_type>_<metric>`` with the metric names of :data:`METRICS`."""
        values = [getattr(self, f.name) for f in fields(self) if f.name not in ("iou_type", "per_class")]
        return {f"coco_eval_{self.iou_type}_{name}": value for name, value in zip(METRICS, values, strict=True)}


def coco_ap(
    ground_truth: Mapping[str, Any] | str | Path,
    predictions: Sequence[Record] | str | Path,
    iou_type: str = "bbox",
    *,
    positive_split: bool = False,
    engine: str = "pycocotools",
) -> CocoAp:
    """Average precision and recall of ``predictions``.

    Args:
        ground_truth: COCO annotations (``images``, ``annotations``, ``categories``) or their file. Boxes are
            ``[x, y, w, h]`` in pixels. An object without segmentation is an ignore region of mask AP.
        predictions: COCO result records or their file; an empty list is a valid answer (AP 0).
        iou_type: ``"bbox"`` or ``"segm"``.
        positive_split: drop detections of categories that have no ground truth in the image.
        engine: ``"pycocotools"``, the definition, or ``"fast"``, which gives the same numbers in less time.

    Raises:
        DataError: unknown ``iou_type``; files without the needed keys; records on unknown images.
    """
    if engine not in ENGINES:
        raise DataError(f"engine is {engine!r}; expected one of {', '.join(ENGINES)}")
    data = read_coco(ground_truth, predictions, iou_type)
    if positive_split:
        data = data.positive_split()
    curves = _evaluate_by_pycocotools(data) if engine == "pycocotools" else precision_and_recall(data)
    return _summary(data, curves)


def _summary(data: CocoInput, curves: Curves) -> CocoAp:
    """The twelve numbers, as pycocotools forms them: means over everything that has ground truth."""
    precision = curves.precision[..., -1]  # (thresholds, recalls, categories, areas) at 100 detections
    recall = curves.recall  # (thresholds, categories, areas, detections)
    whole, *by_size = range(precision.shape[3])
    values = [_mean(precision[..., whole]), _mean(precision[0, ..., whole]), _mean(precision[5, ..., whole])]
    values += [_mean(precision[..., size]) for size in by_size]
    values += [_mean(recall[:, :, whole, limit]) for limit in range(recall.shape[3])]
    values += [_mean(recall[:, :, size, -1]) for size in by_size]
    per_class = {
        name: ClassAp(*(_mean(part) for part in (column, column[0], column[5])))
        for name, column in zip(data.category_names, np.moveaxis(precision[..., whole], 2, 0), strict=True)
    }
    return CocoAp(data.iou_type, *values, per_class=per_class)


def _evaluate_by_pycocotools(data: CocoInput) -> Curves:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth, detections = COCO(), COCO()
        for coco, objects in ((ground_truth, data.truth), (detections, data.detections)):
            coco.dataset = _document(data, objects)
            coco.createIndex()
        evaluation = COCOeval(ground_truth, detections, data.iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
    return Curves(evaluation.eval["precision"], evaluation.eval["recall"])


def _document(data: CocoInput, objects: Objects) -> dict[str, Any]:
    """Ids are counted from 1, because pycocotools marks "unmatched" by the annotation id 0."""
    key = "bbox" if data.iou_type == "bbox" else "segmentation"
    columns = zip(
        objects.images.tolist(),
        objects.categories.tolist(),
        objects.areas.tolist(),
        objects.shapes.tolist() if isinstance(objects.shapes, np.ndarray) else objects.shapes,
        objects.crowd.tolist(),
        objects.scores.tolist(),
        strict=True,
    )
    names = ("image_id", "category_id", "area", key, "iscrowd", "score")
    return {
        "images": [{"id": number, "height": 0, "width": 0} for number in range(data.num_images)],
        "categories": [{"id": number} for number in range(len(data.category_names))],
        "annotations": [
            {"id": number, **dict(zip(names, values, strict=True))} for number, values in enumerate(columns, start=1)
        ],
    }


def _mean(values: np.ndarray) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0
