"""CPU seconds of the video metrics beside the lower bound: ``python benchmarks/eval/video.py [FOLDER]``.

The bound reads both files with the standard library and asks pycocotools for the overlaps that the metric needs, and
does nothing else. Each number is the smallest of several runs, each in a fresh process of one thread; imports are not
counted. FOLDER keeps the data of benchmarks/eval/video_data.py (50 videos x 60 frames x 6 objects), made if absent.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment  # noqa: F401 (imported before the clock runs)

from sam3.data.saco_video import read_ground_truth
from sam3.eval.masklet_ap import masklet_ap
from sam3.eval.masklet_file import read_masklets
from sam3.eval.phota import phota
from sam3.eval.teta import teta
from sam3.eval.veval import evaluate
from sam3.eval.video_cgf1 import video_cgf1
from sam3.eval.video_pairs import VideoData

Track = dict[str, Any]


def bound_of_pairs(truth: list[Track], predictions: list[Track]) -> None:
    """Overlaps of boxes and masks in every frame of every pair."""
    for objects, tracks in _groups(truth, predictions, lambda track: (track["video_id"], track["category_id"])):
        _mask_overlaps(objects, tracks)
        _box_overlaps(objects, tracks)


def bound_of_videos(truth: list[Track], predictions: list[Track]) -> None:
    """Overlaps of all masks in every frame."""
    confident = [track for track in predictions if track["score"] >= 0.5]
    for objects, tracks in _groups(truth, confident, lambda track: track["video_id"]):
        _mask_overlaps(objects, tracks)


CASES: dict[str, tuple[Callable, Callable, float | None]] = {
    "pHOTA, boxes and masks": (bound_of_pairs, phota, 3.0),
    "TETA, masks": (bound_of_videos, teta, 4.0),
    "cgF1, boxes and masks": (bound_of_pairs, video_cgf1, None),
    "mAP and phrase AP, both": (bound_of_pairs, masklet_ap, None),
    "all of them (veval one)": (bound_of_pairs, evaluate, None),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "sam3_bench_video")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--bound", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(measure(options.folder, options.case, bound=options.bound))
        return
    if not (options.folder / "pred.json").exists():
        subprocess.run([sys.executable, Path(__file__).with_name("video_data.py"), options.folder], check=True)
    print(f"CPU seconds of one core, numpy {np.__version__}, smallest of {options.runs} runs")
    print(f"{'metric':<26}{'bound':>8}{'ours':>8}{'ratio':>8}{'limit':>8}")
    for case, (_, _, limit) in CASES.items():
        bound, ours = (_smallest(options.folder, case, options.runs, bound=bound) for bound in (True, False))
        limits = f"{limit:.1f}" if limit else "-"
        print(f"{case:<26}{bound:>8.2f}{ours:>8.2f}{ours / bound:>8.2f}{limits:>8}")


def measure(folder: Path, case: str, *, bound: bool) -> float:
    """CPU seconds from the two files to the numbers."""
    lower_bound, metric, _ = CASES[case]
    start = time.process_time()
    if bound:
        with open(folder / "gt.json") as truth, open(folder / "pred.json") as predictions:
            lower_bound(json.load(truth)["annotations"], json.load(predictions))
    else:
        truth = read_ground_truth(folder / "gt.json")
        metric(VideoData(truth, read_masklets(folder / "pred.json", truth)))
    return time.process_time() - start


def _smallest(folder: Path, case: str, runs: int, *, bound: bool) -> float:
    command = [sys.executable, __file__, str(folder), "--case", case, *(["--bound"] if bound else [])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    outputs = (
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout for _ in range(runs)
    )
    return min(float(output) for output in outputs)


def _groups(truth: list[Track], predictions: list[Track], key: Callable) -> Iterator[tuple[list[Track], list[Track]]]:
    groups: dict[Any, tuple[list[Track], list[Track]]] = {}
    for side, tracks in enumerate((truth, predictions)):
        for track in tracks:
            groups.setdefault(key(track), ([], []))[side].append(track)
    return (group for group in groups.values() if group[0] and group[1])


def _mask_overlaps(objects: list[Track], tracks: list[Track]) -> None:
    for frame in range(len(objects[0]["segmentations"])):
        first = [track["segmentations"][frame] for track in objects if track["segmentations"][frame]]
        second = [track["segmentations"][frame] for track in tracks if track["areas"][frame]]
        if first and second:
            coco_mask.iou(second, first, [0] * len(first))


def _box_overlaps(objects: list[Track], tracks: list[Track]) -> None:
    for frame in range(len(objects[0]["bboxes"])):
        first = [track["bboxes"][frame] for track in objects if track["bboxes"][frame]]
        second = [track["bboxes"][frame] for track in tracks if track["areas"][frame]]
        if first and second:
            coco_mask.iou(np.array(second, dtype=np.float64), np.array(first, dtype=np.float64), [0] * len(first))


if __name__ == "__main__":
    main()
