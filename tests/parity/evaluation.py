"""Evaluation against the fixtures of a folder: ``python -m tests.parity.evaluation DIR``.

Prints what was compared and what is not covered; exit code 1 on any miss. The folder's own README says what is free
in it (names and numbers of cases, sizes, ids, seeds).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tests.parity.report import print_table

PARTS = {
    "image": "tests.parity.evaluation_image",
    "coco": "tests.parity.evaluation_coco",
    "post": "tests.parity.evaluation_post",
    "video": "tests.parity.evaluation_video",
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder with image/, coco/, post/, video/")
    directory = parser.parse_args(argv).directory
    present = [name for name in PARTS if (directory / name).is_dir()]
    rows = [row for name in present for row in import_module(PARTS[name]).check(directory)]
    within = print_table(rows)
    absent = [name for name in PARTS if name not in present]
    print(f"\nnot in {directory}: {', '.join(absent) or 'nothing is missing'}")
    if (directory / "official_numbers.json").exists():
        print("official_numbers.json: the published tables are checked by tests/eval/test_benchmark_readmes.py")
    return 0 if within and rows else 1


if __name__ == "__main__":
    sys.exit(main())
