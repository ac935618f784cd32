"""Post-processing, merging of processes and RLE against the fixtures below ``post/`` of a folder."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam3.eval.prediction_file import merge_ranks, object_records, prediction_path
from sam3.io.files import read_json
from sam3.model.image_results import ImagePostprocessor, Stage
from sam3.model.postprocess import count_objects
from sam3.ops import rle
from sam3.ops.boxes import box_cxcywh_to_xyxy
from sam3.structures import DetectorOutput, ImageObjects, QueryPredictions
from tests.parity.report import Row, difference, rows_or_miss

VALUE_LIMIT = 1e-6
ROUNDED = 1.01e-5  # of numbers written with five decimals
NEAR_ZERO = 1e-4  # a pixel whose resized logit is closer to 0 may fall on either side
OUR_NAMES = {
    "max_dets_per_img": "max_detections",
    "detection_threshold": "score_threshold",
    "use_original_sizes_box": "pixel_boxes",
    "use_original_sizes_mask": "pixel_masks",
    "convert_mask_to_rle": "compressed_masks",
    "use_presence": "use_presence",
    "to_cpu": "to_cpu",
}
NOT_OURS = {"always_interpolate_masks_on_gpu", "iou_type", "use_original_ids"}  # the last two are read below


def check(directory: Path) -> list[Row]:
    """The rows of all fixtures found below ``directory``/post."""
    folder, rows = directory / "post", []
    if (folder / "postprocess.json").exists():
        recorded = read_json(folder / "postprocess.json")
        outputs = _outputs(folder / "model_outputs.npz")
        for name, case in recorded["cases"].items():
            rows += rows_or_miss(f"post {name}", lambda n=name, c=case: _case(n, c, outputs, recorded["metas"]))
        rows += rows_or_miss(
            "post counting", lambda: _counting(recorded.get("counting", {}), outputs, recorded["metas"])
        )
    if (folder / "merge.json").exists():
        for number, case in enumerate(read_json(folder / "merge.json")):
            rows += rows_or_miss(f"post merge {number}", lambda n=number, c=case: _merge(n, c))
    if (folder / "masks_rle.json").exists():
        rows += rows_or_miss("post masks", lambda: _masks(folder))
    return rows


def _outputs(path: Path) -> list[DetectorOutput]:
    with np.load(path) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    stages = []
    while f"stage{len(stages)}_pred_logits" in tensors:
        own = {name: tensors.get(f"stage{len(stages)}_{name}") for name in _FIELDS}
        predictions = QueryPredictions(
            logits=own["pred_logits"],
            boxes=own["pred_boxes"],
            boxes_xyxy=box_cxcywh_to_xyxy(own["pred_boxes"]),
            presence_logits=own["presence_logit_dec"],
            masks=own["pred_masks"],
        )
        stages.append(DetectorOutput(predictions))
    return stages


_FIELDS = ("pred_logits", "pred_boxes", "pred_masks", "presence_logit_dec")


def _case(
    name: str, case: Mapping[str, Any], outputs: Sequence[DetectorOutput], metas: Sequence[Mapping[str, Any]]
) -> Iterator[Row]:
    settings = case["kwargs"]
    unknown = settings.keys() - OUR_NAMES.keys() - NOT_OURS
    if unknown:
        raise ValueError(f"unknown settings {sorted(unknown)}")
    with_masks = settings.get("iou_type", "bbox") == "segm"
    ours = {OUR_NAMES[key]: value for key, value in settings.items() if key in OUR_NAMES}
    processor = ImagePostprocessor(with_masks=with_masks, **ours)
    original = settings.get("use_original_ids", False)
    found, low, high = (
        processor.collect(
            [_stage(_shifted(output, by), meta, original=original) for output, meta in zip(outputs, metas, strict=True)]
        )
        for by in (0.0, -NEAR_ZERO, NEAR_ZERO)
    )
    expected = {int(key): value for key, value in case["results"].items()}
    yield Row(f"post {name}: images", float(set(found) != set(expected)), 0)
    compared = [_compare(found[key], value, (low[key], high[key])) for key, value in expected.items()]
    for quantity, limit in (("scores", VALUE_LIMIT), ("boxes", VALUE_LIMIT), ("labels", 0), ("mask pixels", 0)):
        yield Row(f"post {name}: {quantity}", max((row[quantity] for row in compared), default=0), limit)
    for key in case:
        parts = re.fullmatch(r"dump_(bbox|segm)_maxdets(-?\d+)", key)
        if parts:
            yield from _dump(f"post {name}: {key}", case[key], found, iou_type=parts[1], max_detections=int(parts[2]))
        elif key.startswith("dump_") and key.endswith("_name"):
            wrong = prediction_path("", key.split("_")[1]).name != case[key]
            yield Row(f"post {name}: {key}", float(wrong), 0)


def _stage(output: DetectorOutput, meta: Mapping[str, Any], *, original: bool) -> Stage:
    return Stage(
        output,
        image_ids=meta["original_image_id" if original else "coco_image_id"],
        original_sizes=[tuple(size) for size in meta["original_size"]],
        category_ids=meta["original_category_id"] if original else None,
    )


def _shifted(output: DetectorOutput, by: float) -> DetectorOutput:
    """The output with all mask logits moved; resized ones move as far, because resizing averages."""
    masks = output.one_to_one.masks
    return DetectorOutput(replace(output.one_to_one, masks=None if masks is None else masks + by))


def _compare(
    found: ImageObjects, expected: Mapping[str, Any], bounds: tuple[ImageObjects, ImageObjects]
) -> dict[str, float]:
    """Errors; objects are compared in the order of their scores, since the order of equal ones is free."""
    if len(found) != len(expected["scores"]):
        return dict.fromkeys(("scores", "boxes", "labels", "mask pixels"), math.inf)
    ours = torch.argsort(found.scores, descending=True, stable=True)
    theirs = torch.argsort(torch.tensor(expected["scores"]), descending=True, stable=True).tolist()
    found, low, high = (objects.take(ours) for objects in (found, *bounds))
    masks = expected.get("masks_rle", expected.get("masks"))
    if isinstance(masks, Mapping):
        masks = masks["rle"]
    return {
        "scores": difference(found.scores.tolist(), [expected["scores"][row] for row in theirs]),
        "boxes": difference(found.boxes.tolist(), [expected["boxes"][row] for row in theirs]),
        "labels": difference(found.labels.tolist(), [expected["labels"][row] for row in theirs]),
        "mask pixels": 0.0
        if masks is None
        else _unequal_pixels(
            *(_arrays(objects.masks) for objects in (found, low, high)), [masks[row] for row in theirs]
        ),
    }


def _arrays(masks: Any) -> list[np.ndarray]:
    return [rle.decode(mask) if isinstance(mask, dict) else np.asarray(mask) for mask in masks]


def _unequal_pixels(
    found: Sequence[np.ndarray], low: Sequence[np.ndarray], high: Sequence[np.ndarray], expected: Sequence[Any]
) -> float:
    """Pixels that differ, those left out that are in one of the bounds and not in the other."""
    columns = zip(found, low, high, expected, strict=True)
    return float(sum(np.count_nonzero((a != rle.decode(e)) & (below == above)) for a, below, above, e in columns))


def _dump(
    name: str,
    expected: Sequence[Mapping[str, Any]],
    found: Mapping[int, ImageObjects],
    *,
    iou_type: str,
    max_detections: int,
) -> Iterator[Row]:
    """Rounded numbers of the file; masks have been compared above, here only the share of the picture."""
    records = [
        record
        for image_id, objects in found.items()
        for record in object_records(objects, image_id=image_id, with_masks=iou_type == "segm")
    ]
    records = merge_ranks([records], max_detections)
    ours, theirs = (sorted(side, key=_place) for side in (records, expected))
    same = [_place(record)[:2] for record in ours] == [_place(record)[:2] for record in theirs]
    yield Row(f"{name}: images and categories", float(not same), 0)
    fields = {field for record in theirs for field in record} ^ {field for record in ours for field in record}
    yield Row(f"{name}: fields", float(len(fields)), 0)
    for field, limit in (("score", ROUNDED), ("bbox", ROUNDED), ("area", VALUE_LIMIT)):
        errors = [difference(a[field], b[field]) for a, b in zip(ours, theirs, strict=False) if field in b]
        if errors:
            yield Row(f"{name}: {field}", max(errors), limit)


def _place(record: Mapping[str, Any]) -> tuple[int, int, float]:
    return record["image_id"], record["category_id"], -record["score"]


def _merge(number: int, case: Mapping[str, Any]) -> Iterator[Row]:
    """As sets; where scores tie at the cut, either record may stay, so scores are compared as multisets."""
    merged = merge_ranks(case["per_rank"], case["maxdets"])
    ours, theirs = (Counter(map(_scored, side)) for side in (merged, case["merged"]))
    yield Row(f"post merge {number}: scores of each image", float(((ours - theirs) + (theirs - ours)).total()), 0)
    given = Counter(str(record) for rank in case["per_rank"] for record in rank)
    strangers = Counter(map(str, merged)) - given
    yield Row(f"post merge {number}: records that nobody gave", float(strangers.total()), 0)


def _scored(record: Mapping[str, Any]) -> tuple[int, float]:
    return record["image_id"], record["score"]


def _counting(
    recorded: Mapping[str, Any], outputs: Sequence[DetectorOutput], metas: Sequence[Mapping[str, Any]]
) -> Iterator[Row]:
    """``{threshold: {use presence: {image id: {"count": n}}}}``; the last prompt of an image counts."""
    for threshold, by_presence in recorded.items():
        for presence, expected in by_presence.items():
            counts: dict[int, int] = {}
            for output, meta in zip(outputs, metas, strict=True):
                found = count_objects(output, score_threshold=float(threshold), use_presence=presence == "True")
                counts.update(zip(meta["original_image_id"], found, strict=True))
            wanted = {int(image_id): entry["count"] for image_id, entry in expected.items()}
            yield Row(f"post counting, {threshold}, presence {presence}", float(counts != wanted), 0)


def _masks(folder: Path) -> Iterator[Row]:
    with np.load(folder / "masks.npz") as arrays:
        masks = [mask for name in arrays.files for mask in arrays[name].reshape(-1, *arrays[name].shape[-2:])]
    recorded = read_json(folder / "masks_rle.json")
    encoded = [rle.encode(mask) for mask in masks]
    unequal = sum(a["counts"] != b["counts"] or a["size"] != b["size"] for a, b in zip(encoded, recorded, strict=True))
    yield Row("post masks: RLE text", float(unequal), 0)
    areas = [rle.area(mask) for mask in encoded]
    yield Row("post masks: areas", difference(areas, [mask["area"] for mask in recorded]), 0)
    pixels = sum(np.count_nonzero(rle.decode(b) != a) for a, b in zip(masks, recorded, strict=True))
    yield Row("post masks: decoded pixels", float(pixels), 0)
