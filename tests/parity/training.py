"""Training code against the fixtures of a folder: ``python -m tests.parity.training DIR``.

Prints what was compared and what is not covered; exit code 1 on any miss.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tests.parity.report import print_table
from tests.parity.training_optim import has_json

FILES = (
    "losses.json",
    "lr_schedule.json",
    "param_groups.json",
    "transforms.json",
    "dataset_behaviour.json",
    "coco_toy/expected_loaders.json",
)
PARTS = ("tests.parity.training_losses", "tests.parity.training_data")
NOT_COVERED = {"trainer_artifacts.json": "tests/train/test_training_run.py makes a run and compares it"}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder with losses.json, transforms.json, ...")
    directory = parser.parse_args(argv).directory
    parts = [import_module(name) for name in PARTS]
    rows = [row for part in parts for row in part.check(directory)]
    within = print_table(rows)
    print("\nnot covered")
    absent = {name: f"not in {directory}" for name in FILES if not has_json(directory / name)}
    for reasons in (absent, NOT_COVERED, *(part.NOT_COVERED for part in parts)):
        for name, reason in reasons.items():
            print(f"  {name}: {reason}")
    return 0 if within and rows else 1


if __name__ == "__main__":
    sys.exit(main())
