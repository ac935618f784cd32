"""Compares the tracker with recorded numbers: ``python -m tests.parity.tracker DIR``.

DIR is a folder in the format of the tracker's golden data; sizes, weights and cases come from its files. Exit code 1
on any miss; what the program does not cover is named.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.parity import (
    tracker_clicks,
    tracker_heuristics,
    tracker_inputs,
    tracker_network,
    tracker_sessions,
    tracker_videos,
)
from tests.parity.report import Row, print_table


def compare(folder: Path) -> list[Row]:
    """All rows of a folder."""
    parts = (tracker_network, tracker_inputs, tracker_clicks, tracker_sessions, tracker_videos, tracker_heuristics)
    return [row for part in parts for row in part.compare(folder)]


def uncovered(folder: Path) -> list[str]:
    """What of the folder is not compared."""
    files = [path.stem for path in sorted(folder.glob("*.safetensors")) if path.stem != "weights"]
    compared = ("tracker_e2e_", "video_", "image_predictor", "loaders")
    own = [name for name in files if name not in tracker_network.CHECKS and not name.startswith(compared)]
    log = ["planning_log and aux.* of video_* (helpful intermediates)"] if list(folder.glob("video_*.json")) else []
    return own + tracker_heuristics.uncovered(folder) + log


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(argv).folder
    is_good = print_table(compare(folder))
    if missing := uncovered(folder):
        print(f"not compared: {'; '.join(missing)}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
