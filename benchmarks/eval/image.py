"""Image cgF1 and COCO AP beside their lower bound in CPU seconds: ``python benchmarks/eval/image.py [FOLDER]``.

The bound reads the files with the standard library and asks pycocotools once for the overlaps that the metric needs,
and does nothing else. Each number is the smallest of several runs, the bound and ours in turn, each in a fresh process
of one thread; imports are not counted. The last lines compare one process with two: wall time, CPU time of the
busiest process, and the bytes of the result. FOLDER keeps the data of benchmarks/eval/image_data.py, made if absent.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment  # noqa: F401 (imported before the clock runs)

from sam3.eval.cgf1_files import evaluate_files
from sam3.eval.coco_ap import coco_ap

Groups = dict[Any, list[dict[str, Any]]]


def cgf1_bound(folder: Path, iou_type: str) -> None:
    """JSON of all files, and one call for each pair and annotator that both have something."""
    predictions = _groups(record for record in _read(folder / "pred.json") if record["score"] >= 0.5)
    for path in sorted(folder.glob("gt_*.json")):
        for pair_id, objects in _groups(_read(path)["annotations"]).items():
            if pair_id in predictions:
                _overlaps(predictions[pair_id], objects, iou_type)


def cgf1(folder: Path, iou_type: str, workers: int = 1) -> dict[str, float]:
    return evaluate_files(
        folder / "pred.json", sorted(folder.glob("gt_*.json")), iou_type, workers=workers
    ).cgf1.to_dict()


def coco_bound(folder: Path, iou_type: str) -> None:
    """JSON of both files, and one call for each image and category that both have something."""
    objects, detections = (
        _groups(entries, lambda entry: (entry["image_id"], entry["category_id"]))
        for entries in (_read(folder / "gt.json")["annotations"], _read(folder / "pred.json"))
    )
    for cell, things in objects.items():
        if cell in detections:
            _overlaps(detections[cell], things, iou_type)


def coco(folder: Path, iou_type: str) -> dict[str, float]:
    return coco_ap(folder / "gt.json", folder / "pred.json", iou_type, engine="fast").to_dict()


CASES: dict[str, tuple[str, str, Callable, Callable, float]] = {
    "cgF1, masks, dense": ("dense", "segm", cgf1_bound, cgf1, 1.5),
    "cgF1, boxes, dense": ("dense", "bbox", cgf1_bound, cgf1, 1.5),
    "cgF1, masks, sparse": ("sparse", "segm", cgf1_bound, cgf1, 1.8),
    "cgF1, boxes, sparse": ("sparse", "bbox", cgf1_bound, cgf1, 1.8),
    "COCO AP, boxes, fast": ("coco", "bbox", coco_bound, coco, 1.5),
    "COCO AP, masks, fast": ("coco", "segm", coco_bound, coco, 1.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "sam3_bench_image")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=3, metavar="N", help="dense pairs, sparse pairs, COCO images")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--bound", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.workers:
        print(json.dumps(measure_processes(options.folder, options.workers)))
        return
    if options.case:
        print(json.dumps(measure(options.folder, options.case, bound=options.bound)))
        return
    if not (options.folder / "coco" / "pred.json").exists():
        sizes = zip(("--dense", "--sparse", "--coco"), map(str, options.size or ()), strict=False)
        arguments = [part for pair in sizes for part in pair]
        subprocess.run(
            [sys.executable, Path(__file__).with_name("image_data.py"), options.folder, *arguments], check=True
        )
    print(f"CPU seconds of one core, numpy {np.__version__}, smallest of {options.runs} runs; peak memory of ours")
    print(f"{'metric':<24}{'bound':>8}{'ours':>8}{'ratio':>8}{'limit':>8}{'MiB':>8}")
    for case, (*_, limit) in CASES.items():
        turns = [[_run(options.folder, case, bound=bound) for bound in (True, False)] for _ in range(options.runs)]
        (bound, _), (ours, peak) = (min(side) for side in zip(*turns, strict=True))
        print(f"{case:<24}{bound:>8.2f}{ours:>8.2f}{ours / bound:>8.2f}{limit:>8.1f}{peak:>8.0f}", flush=True)
    _compare_processes(options.folder, 3 * options.runs)


def measure(folder: Path, case: str, *, bound: bool) -> tuple[float, float]:
    """CPU seconds from the files to the numbers, and the peak memory of the process in MiB."""
    part, iou_type, lower_bound, metric, _ = CASES[case]
    start = time.process_time()
    (lower_bound if bound else metric)(folder / part, iou_type)
    seconds = time.process_time() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _run(folder: Path, case: str = "", *, bound: bool = False, workers: int = 0) -> tuple:
    """:func:`measure`, or with ``workers`` :func:`measure_processes`, in a fresh process."""
    command = [sys.executable, __file__, str(folder), "--case", case, "--workers", str(workers)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command += ["--bound"] if bound else []
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return tuple(json.loads(done.stdout))


def _compare_processes(folder: Path, runs: int) -> None:
    """Wall time of one process and of two, turn by turn, each in a fresh process; and, for a machine that others use,
    the CPU seconds of the busiest process, which two idle cores need at least."""
    turns = [[_run(folder, workers=workers) for workers in (1, 2)] for _ in range(runs)]
    for name, position in (("wall seconds", 0), ("CPU seconds of the busiest process", 1)):
        one, two = (min(turn[side][position] for turn in turns) for side in (0, 1))
        print(f"dense masks, {name}: one process {one:.2f}, two {two:.2f}: {one / two:.2f} times")
    results = {side[2] for turn in turns for side in turn}
    verdict = "identical" if len(results) == 1 else f"DIFFERENT ({len(results)} of them)"
    print(f"results of one process and of two: {verdict}")
    print(f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def measure_processes(folder: Path, workers: int) -> tuple[float, float, str]:
    """Wall seconds and CPU seconds of the busiest process for the dense masks, and the numbers as text."""
    start, before = time.perf_counter(), os.times()
    numbers = json.dumps(cgf1(folder / "dense", "segm", workers))
    wall, after = time.perf_counter() - start, os.times()
    own = after.user + after.system - before.user - before.system
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, max(own, children / max(workers - 1, 1)), numbers


def _read(path: Path) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _groups(entries: Any, key: Callable = lambda entry: entry["image_id"]) -> Groups:
    groups: Groups = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return groups


def _overlaps(detections: list[dict[str, Any]], objects: list[dict[str, Any]], iou_type: str) -> None:
    field = "bbox" if iou_type == "bbox" else "segmentation"
    first, second = ([entry[field] for entry in side] for side in (detections, objects))
    if iou_type == "bbox":
        first, second = np.array(first, dtype=np.float64), np.array(second, dtype=np.float64)
    coco_mask.iou(first, second, [0] * len(objects))


if __name__ == "__main__":
    main()
