"""The tracker against ``transformers`` with the same weights, piece by piece: largest differences.

``python benchmarks/tracker_vs_transformers.py [--image-size 1008] [--seed 0]``. The released network with random
weights, float32, CPU. Exit code 1 if a piece differs by more than rounding explains.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch

from benchmarks.tracker_peer import build_peer, compare
from sam3.config import TrackerConfig, sam3
from sam3.model.initialization import initialize_tracker
from sam3.model.tracker.tracker import Tracker

ROUNDING = 5e-6  # relative to the largest value
BFLOAT16_STEP = 2.0**-7


def random_tracker(config: TrackerConfig, seed: int) -> Tracker:
    """Every parameter non-trivial."""
    torch.manual_seed(seed)
    tracker = Tracker(config)
    initialize_tracker(tracker)
    with torch.no_grad():
        for parameter in tracker.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return tracker.eval()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=1008)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    tracker = random_tracker(replace(sam3().tracker_config(), image_size=options.image_size), options.seed)
    print("| piece | difference | largest value | recorded in the specification | ok |")
    print("|---|---|---|---|---|")
    is_good = True
    for found in compare(tracker, build_peer(tracker)):
        limit = BFLOAT16_STEP if "bfloat16" in found.piece else ROUNDING
        is_known = "known" in found.piece
        ok = found.relative <= limit
        is_good &= ok or is_known
        verdict = "as known" if is_known else "yes" if ok else "NO"
        row = (found.piece, f"{found.difference:.2g}", f"{found.scale:.2g}", f"{found.expected:.2g}", verdict)
        print("| " + " | ".join(row) + " |", flush=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
