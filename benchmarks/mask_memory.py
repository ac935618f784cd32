"""Memory of full-size masks: 200 detections on a 12-megapixel picture, through post-processing.

``python benchmarks/mask_memory.py`` prints the peak memory beyond the returned boolean masks, the time,
and whether the masks equal those of resizing everything at once (computed one mask at a time, because at
once they would need 10 GB). The stated bound is 1.5 GB; exit code 1 if it is missed or a bit differs.
"""

import argparse
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sam3.model.postprocess import detections
from sam3.structures import DetectorOutput, QueryPredictions

GIGABYTE = 1e9
BOUND = 1.5 * GIGABYTE
PAGE = resource.getpagesize()

T = TypeVar("T")


def random_output(num_queries: int, side: int) -> DetectorOutput:
    """One prompt whose queries all count, with smooth random mask logits."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, num_queries, 16, 16, generator=generator) * 4
    predictions = QueryPredictions(
        logits=torch.full((1, num_queries, 1), 3.0),
        boxes=torch.rand(1, num_queries, 4, generator=generator),
        boxes_xyxy=torch.rand(1, num_queries, 4, generator=generator),
        presence_logits=torch.full((1, 1), 3.0),
        masks=F.interpolate(coarse, (side, side), mode="bilinear"),
    )
    return DetectorOutput(one_to_one=predictions)


def resident_bytes() -> int:
    """Memory of this process at the moment."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def with_peak(work: Callable[[], T]) -> tuple[T, int, float]:
    """Result of ``work``, the memory it added at its peak (sampled every millisecond), and its seconds."""
    before, peak, done = resident_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        result = work()
    finally:
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    return result, max(peak, resident_bytes()) - before, seconds


def differing_pixels(masks: Tensor, logits: Tensor) -> int:
    """Pixels that differ from resizing each mask alone, in the obvious way."""
    different = 0
    for mask, one in zip(masks, logits, strict=True):
        resized = F.interpolate(one[None, None], mask.shape, mode="bilinear", align_corners=False)[0, 0]
        different += int((mask != (resized.sigmoid() > 0.5)).sum())
    return different


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detections", type=int, default=200)
    parser.add_argument("--height", type=int, default=3000)
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--side", type=int, default=288, help="of the masks that the network predicts")
    arguments = parser.parse_args(argv)
    size = (arguments.height, arguments.width)
    output = random_output(arguments.detections, arguments.side)
    detections(output, original_sizes=[(8, 8)], score_threshold=0.5)  # load what is loaded once

    (found,), added, seconds = with_peak(lambda: detections(output, original_sizes=[size], score_threshold=0.5))
    returned = found.masks.numel()
    extra, different = added - returned, differing_pixels(found.masks, output.one_to_one.masks[0])
    print(f"{len(found)} masks of {size[0]} x {size[1]} pixels, {torch.get_num_threads()} threads")
    print(f"returned boolean masks   {returned / GIGABYTE:6.2f} GB")
    print(f"peak beyond them         {extra / GIGABYTE:6.2f} GB (bound {BOUND / GIGABYTE} GB)")
    print(f"all at once, in float32  {4 * returned / GIGABYTE:6.2f} GB")
    print(f"seconds                  {seconds:6.1f}")
    print(f"pixels that differ from the unchunked computation: {different}")
    return 0 if extra <= BOUND and different == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
