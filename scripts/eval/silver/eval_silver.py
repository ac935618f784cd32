#!/usr/bin/env python
"""cgF1 on the subsets of SA-Co/Silver; the same as ``sam3 eval silver``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # runs from a clone that is not installed

from sam3.errors import run_command
from sam3.eval.benchmark_command import silver

if __name__ == "__main__":
    sys.exit(run_command(silver))
