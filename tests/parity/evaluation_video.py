"""Video metrics against the fixtures of a folder: every case folder under ``video/`` and ``video/corner_cases.json``.

Case folders hold ``gt.json``, ``pred.json`` and ``expected.json``; their names, number and sizes are free. Where the
reference stops or has no number, what is wanted instead is worked out here from the inputs: the values of "nothing
predicted" or "nothing to find", areas counted from the masks, the image-level MCC itself.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sam3.data.saco_video import ground_truth_of, read_ground_truth
from sam3.errors import UserError
from sam3.eval.masklet_ap import masklet_ap
from sam3.eval.masklet_file import read_masklets
from sam3.eval.phota import class_agnostic_hota, class_hota, phota
from sam3.eval.teta import teta
from sam3.eval.veval import evaluate_files
from sam3.eval.video_cgf1 import video_cgf1
from sam3.eval.video_pairs import VideoData
from sam3.io.files import read_json
from sam3.ops import rle
from tests.parity.report import Row, rows_or_miss

EXACT = 1e-9
BOX_HOTA = 1e-7  # the reference compares boxes in float32 somewhere
FIFTH_DIGIT = 1.0  # units of the last digit that TETA reports

HOTA_NAMES = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "OWTA")
TETA_NAMES = ("teta", "loc_a", "assoc_a", "cls_a", "loc_re", "loc_pr", "assoc_re", "assoc_pr", "cls_re", "cls_pr")

Numbers = Mapping[str, float | None]

# Extra results of a case: settings that the standard run does not use, as the reference has them.
EXTRAS: dict[str, Callable[[VideoData], Numbers]] = {
    "teta_bbox_exhaustive": lambda data: teta(data, "bbox").to_dict("bbox"),
    "teta_mask_tao": lambda data: teta(data, exhaustive=False).to_dict(),
    "teta_mask_exhaustive_track_nms": lambda data: teta(data, nms="track").to_dict(),
    "teta_mask_exhaustive_frame_nms": lambda data: teta(data, nms="frame").to_dict(),
    "hota_mot": lambda data: class_agnostic_hota(data, keep_suppressed_masks=True).to_dict(),
    "hota_class": lambda data: class_hota(data, average_over_table=True).to_dict(unit="class"),
}
CGF1_AT = "cgf1_prob_thresh_"  # the threshold follows
METRICS: dict[str, Callable[[VideoData], Numbers]] = {
    "map": lambda data: {key: value for key, value in masklet_ap(data).to_dict().items() if "_mAP_" in key},
    "phrase_ap": lambda data: {key: value for key, value in masklet_ap(data).to_dict().items() if "_phrase_ap_" in key},
    "teta_mask_exhaustive": lambda data: teta(data).to_dict(),
    "phota": lambda data: phota(data).to_dict(),
    "cgf1": lambda data: video_cgf1(data).to_dict(),
}


def check(directory: Path) -> list[Row]:
    """The rows of all video fixtures found below ``directory``."""
    folder, rows = directory / "video", []
    cases = sorted(path.parent for path in folder.glob("*/expected.json"))
    for case in cases:
        rows += rows_or_miss(f"video/{case.name}", lambda case=case: case_rows(case))
    corners = folder / "corner_cases.json"
    if corners.is_file():
        for corner in read_json(corners):
            name = f"video corner {corner.get('name')}"
            rows += _worst(rows_or_miss(name, lambda corner=corner, name=name: corner_rows(corner, name)))
    return rows


def case_rows(case: Path) -> Iterator[Row]:
    """Numbers of the whole set and of each pair, through files; then the settings that the standard run leaves out."""
    expected = read_json(case / "expected.json")
    with tempfile.TemporaryDirectory() as folder:
        evaluate_files(case / "gt.json", case / "pred.json", Path(folder) / "result.json")
        result = read_json(Path(folder) / "result.json")
    yield from compare(f"video/{case.name}", result["dataset_results"], expected["dataset_results"])
    yield from _pair_rows(f"video/{case.name} pairs", result["video_np_results"], expected["video_np_results"])
    truth = read_ground_truth(case / "gt.json")
    data = VideoData(truth, read_masklets(case / "pred.json", truth))
    for name, wanted in expected.get("extra", {}).items():
        yield from compare(f"video/{case.name} {name}", extra(name, data), wanted)


def extra(name: str, data: VideoData) -> Numbers:
    """The numbers of a setting by its name in ``expected.json``."""
    if name.startswith(CGF1_AT):
        return video_cgf1(data, score_threshold=float(name.removeprefix(CGF1_AT))).to_dict()
    return EXTRAS[name](data)


def corner_rows(corner: Mapping[str, Any], name: str) -> Iterator[Row]:
    """One tiny set, each metric by itself."""
    try:
        truth = ground_truth_of(corner["gt"])
        data = VideoData(truth, read_masklets(corner["preds"], truth))
    except UserError as error:
        refused = all("raises" in wanted for wanted in corner["expected"].values())
        yield Row(f"{name}: refused ({error})", 0.0 if refused else math.nan, 0.0)
        return
    for metric, wanted in corner["expected"].items():
        found = METRICS[metric](data)
        if "raises" in wanted:
            wanted = instead(metric, corner, found)
        yield from compare(name, found, wanted)


def compare(name: str, found: Numbers, wanted: Numbers) -> Iterator[Row]:
    """One row for each group of numbers that has a limit of its own."""
    yield Row(f"{name}: keys and their order", float(list(found) != list(wanted)), 0.0)
    groups: dict[tuple[str, float], float] = {}
    for key, value in wanted.items():
        unit, group = 1.0, ("numbers", EXACT)
        if key.endswith(HOTA_NAMES):
            group = ("HOTA of boxes", BOX_HOTA) if "bbox_" in key else ("HOTA of masks", EXACT)
        elif key.removeprefix("video_mask_").removeprefix("video_bbox_") in TETA_NAMES:
            unit, group = _fifth_digit(value), ("TETA, units of the fifth digit", FIFTH_DIGIT)
        error = _error(found.get(key), _mended(key, wanted)) / unit
        groups[group] = max(groups.get(group, 0.0), error, key=lambda value: (math.isnan(value), value))
    for (group, limit), error in groups.items():
        yield Row(f"{name}: {group}", error, limit)


def instead(metric: str, corner: Mapping[str, Any], found: Numbers) -> Numbers:
    """What is wanted where the reference stops."""
    if corner["preds"] and any("areas" not in record for record in corner["preds"]):
        truth = ground_truth_of(corner["gt"])
        records = [{**record, "areas": _areas(record)} for record in corner["preds"]]
        return METRICS[metric](VideoData(truth, read_masklets(records, truth)))
    nothing_to_find = not [item for item in corner["gt"]["annotations"] if not item.get("iscrowd")]
    ap = -1.0 if nothing_to_find else 0.0
    return {key: 1.0 if key.endswith("_LocA") else ap if "_mAP_" in key or "_ap_" in key else 0.0 for key in found}


def _worst(rows: list[Row]) -> list[Row]:
    """The largest error of each quantity, or the first that is not a number."""
    worst: dict[str, Row] = {}
    for row in rows:
        before = worst.setdefault(row.quantity, row)
        if not math.isnan(before.error) and not row.error <= before.error:
            worst[row.quantity] = row
    return list(worst.values())


def _pair_rows(name: str, found: list[Numbers], wanted: list[Numbers]) -> Iterator[Row]:
    keys = [[(row["video_id"], row["category_id"], *row) for row in rows] for rows in (found, wanted)]
    yield Row(f"{name}: rows, keys and their order", float(keys[0] != keys[1]), 0.0)
    flat = [
        {f"{index} {key}": value for index, row in enumerate(rows) for key, value in row.items()}
        for rows in (found, wanted)
    ]
    yield from list(compare(name, *flat))[1:]


def _mended(key: str, wanted: Numbers) -> float | None:
    """The MCC is reported even where pmF1 is 0 and the reference divides by it."""
    value = wanted[key]
    if value is None and "_ilmcc_" in key:
        return wanted[key.rpartition("_ilmcc_")[0] + "_ilmcc_50_95"]
    return value


def _error(found: float | None, wanted: float | None) -> float:
    return math.nan if found is None or wanted is None else abs(found - wanted)


def _fifth_digit(value: float | None) -> float:
    return 10.0 ** (math.floor(math.log10(abs(value))) - 4) if value else 1e-4


def _areas(record: Mapping[str, Any]) -> list[int]:
    return [0 if mask is None else int(rle.decode(mask).sum()) for mask in record["segmentations"]]
