"""COCO average precision of boxes or masks, as pycocotools defines it.

A pure function: ground truth and predictions in, numbers out. Source: spec/evaluation.md section 4.
"""

import contextlib
import copy
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from sam3.errors import DataError
from sam3.eval.prediction_file import Record
from sam3.io.files import read_json
from sam3.ops import rle

IOU_TYPES = ("bbox", "segm")
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
) -> CocoAp:
    """Average precision and recall of ``predictions``.

    Args:
        ground_truth: COCO annotations (``images``, ``annotations``, ``categories``) or their file. Boxes are
            ``[x, y, w, h]`` in pixels. An object without segmentation is an ignore region of mask AP.
        predictions: COCO result records or their file; an empty list is a valid answer (AP 0).
        iou_type: ``"bbox"`` or ``"segm"``.
        positive_split: drop detections of categories that have no ground truth in the image.

    Raises:
        DataError: unknown ``iou_type``; files without the needed keys; records on unknown images.
    """
    if iou_type not in IOU_TYPES:
        raise DataError(f"iou_type is {iou_type!r}; expected one of {', '.join(IOU_TYPES)}")
    truth = _prepare_truth(_load(ground_truth), iou_type)
    records = _prepare_records(_load(predictions), truth, iou_type)
    if positive_split:
        present = {(a["image_id"], a["category_id"]) for a in truth["annotations"]}
        records = [r for r in records if (r["image_id"], r["category_id"]) in present]
    evaluation = _run_pycocotools(truth, records, iou_type)
    values = [float(value) for value in evaluation.stats]
    return CocoAp(iou_type, *values, per_class=_per_class(evaluation, truth["categories"]))


def _load(source: Any) -> Any:
    return read_json(source) if isinstance(source, str | Path) else source


def _prepare_truth(source: Any, iou_type: str) -> dict[str, Any]:
    """Copy with what pycocotools needs: positive annotation ids, ``area``, ``iscrowd``, RLE masks."""
    if not isinstance(source, Mapping) or any(key not in source for key in ("images", "annotations", "categories")):
        raise DataError("the ground truth must be a COCO dictionary with images, annotations and categories")
    sizes = {image["id"]: image for image in source["images"]}
    # pycocotools marks "unmatched" by id 0, so ids are counted from 1 here whatever the file says.
    annotations = [
        _prepare_annotation(annotation, number, sizes, iou_type)
        for number, annotation in enumerate(source["annotations"], start=1)
    ]
    return {
        "info": {},
        "images": copy.deepcopy(list(source["images"])),
        "categories": copy.deepcopy(list(source["categories"])),
        "annotations": annotations,
    }


def _prepare_annotation(annotation: Record, number: int, images: dict[Any, Record], iou_type: str) -> Record:
    if annotation.get("image_id") not in images:
        raise DataError(
            f"annotation {annotation.get('id')} names image {annotation.get('image_id')}, which is not listed"
        )
    prepared = {**annotation, "id": number, "iscrowd": int(annotation.get("iscrowd", 0))}
    segmentation = annotation.get("segmentation")
    if iou_type == "segm":
        if not segmentation:
            x, y, w, h = annotation["bbox"]
            segmentation = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            prepared["iscrowd"] = 1
        image = images[annotation["image_id"]]
        prepared["segmentation"] = rle.from_any(segmentation, image["height"], image["width"])
    if "area" not in annotation:
        prepared["area"] = _area(prepared, iou_type)
    return prepared


def _area(annotation: Record, iou_type: str) -> float:
    if iou_type == "segm":
        return float(rle.area(annotation["segmentation"]))
    return float(annotation["bbox"][2] * annotation["bbox"][3])


def _prepare_records(source: Any, truth: dict[str, Any], iou_type: str) -> list[Record]:
    if not isinstance(source, Sequence) or isinstance(source, str | bytes):
        raise DataError("predictions must be a list of COCO result records")
    key = "bbox" if iou_type == "bbox" else "segmentation"
    known = {image["id"] for image in truth["images"]}
    for index, record in enumerate(source):
        missing = [name for name in ("image_id", "category_id", "score", key) if name not in record]
        if missing:
            raise DataError(f"prediction {index} lacks {', '.join(missing)}; {iou_type} AP needs it in every record")
        if record["image_id"] not in known:
            raise DataError(
                f"prediction {index} is for image {record['image_id']}, which the ground truth does not list"
            )
    return [dict(record) for record in source]


def _run_pycocotools(truth: dict[str, Any], records: list[Record], iou_type: str) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = truth
        ground_truth.createIndex()
        evaluation = COCOeval(ground_truth, _detections(ground_truth, records), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _detections(ground_truth: Any, records: list[Record]) -> Any:
    """``loadRes``, which cannot load an empty list."""
    if records:
        return ground_truth.loadRes(records)
    empty = type(ground_truth)()
    empty.dataset = {**ground_truth.dataset, "annotations": []}
    empty.createIndex()
    return empty


def _per_class(evaluation: Any, categories: Iterable[Record]) -> dict[str, ClassAp]:
    """AP of each category over all areas at 100 detections; same-named categories are told apart by id."""
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (thresholds, recalls, categories)
    names = {category["id"]: str(category.get("name", category["id"])) for category in categories}
    doubled = {name for name in names.values() if list(names.values()).count(name) > 1}
    result = {}
    for column, category_id in enumerate(evaluation.params.catIds):
        name = names[category_id]
        values = precision[:, :, column]
        label = f"{name} ({category_id})" if name in doubled else name
        result[label] = ClassAp(_mean(values), _mean(values[0]), _mean(values[5]))
    return result


def _mean(values: np.ndarray) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0
