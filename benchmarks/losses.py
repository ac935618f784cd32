"""Memory and time of the mask loss at the released size: ``python benchmarks/losses.py [--pairs 24]``.

Masks of 288 x 288 logits are judged against 1008 x 1008 targets, forward and backward, in a fresh
process each: all at once, in chunks (the default), and at sampled points. On a CPU the peak is that of
the resident memory, on an accelerator that of its allocator; both without what the inputs take.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import torch

from sam3.structures import QueryPredictions, Targets
from sam3.train.losses.masks import MaskLoss
from sam3.train.matcher import Matches

CASES = {
    "all at once": MaskLoss(max_chunk_pixels=2**62),
    "in chunks": MaskLoss(),
    "12544 points": MaskLoss(num_sample_points=12544),
}

ENVIRONMENT = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # freed tensors go back at once and leave no holes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=24, help="matched queries")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(CASES[options.case], options.pairs, torch.device(options.device))))
        return
    print(f"{options.pairs} pairs on {options.device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'case':<14}{'seconds':>9}{'extra MiB':>11}{'loss':>12}")
    for case in CASES:
        command = [sys.executable, __file__, "--case", case, "--pairs", str(options.pairs), "--device", options.device]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout)
        print(f"{case:<14}{result['seconds']:>9.2f}{result['mib']:>11.0f}{result['loss']:>12.6f}")


def measure(term: MaskLoss, pairs: int, device: torch.device) -> dict[str, float]:
    """Seconds, peak memory and value of one forward and backward pass."""
    torch.manual_seed(0)
    predictions, targets = _inputs(pairs, device)
    rows = torch.arange(pairs, device=device)
    matches = Matches(torch.zeros_like(rows), rows, rows)
    _step(term, predictions, targets, Matches(*(torch.zeros(1, dtype=torch.long, device=device) for _ in range(3))))
    before, start = _peak_mib(device, reset=True), time.perf_counter()
    loss = _step(term, predictions, targets, matches)
    return {"seconds": time.perf_counter() - start, "mib": _peak_mib(device) - before, "loss": loss}


def _step(term: MaskLoss, predictions: QueryPredictions, targets: Targets, matches: Matches) -> float:
    losses = term(predictions, targets, matches, torch.ones((), device=targets.boxes.device))
    total = losses["loss_mask"] + losses["loss_dice"]
    total.backward()
    return total.item()


def _inputs(pairs: int, device: torch.device) -> tuple[QueryPredictions, Targets]:
    boxes = torch.rand(1, pairs, 4, device=device)
    masks = torch.zeros(pairs, 1008, 1008, dtype=torch.bool, device=device)
    masks[:, 300:700, 200:800] = True
    logits = torch.randn(1, pairs, 288, 288, device=device, requires_grad=True)
    predictions = QueryPredictions(boxes[..., :1], boxes, boxes, masks=logits)
    ids = torch.arange(pairs, device=device)
    targets = Targets(
        num_boxes=torch.tensor([pairs], device=device),
        boxes=boxes[0],
        boxes_padded=boxes,
        object_ids=ids,
        object_ids_padded=ids[None],
        is_exhaustive=torch.ones(1, dtype=torch.bool, device=device),
        masks=masks,
    )
    return predictions, targets


def _peak_mib(device: torch.device, *, reset: bool = False) -> float:
    """Peak memory so far; on an accelerator since the last reset."""
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated() / 2**20


if __name__ == "__main__":
    main()
