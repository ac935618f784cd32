#!/usr/bin/env python
"""cgF1 of one prediction file; the same as ``sam3 eval cgf1``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a clone that is not installed

from sam3.errors import run_command
from sam3.eval.cgf1_command import main

if __name__ == "__main__":
    sys.exit(run_command(main))
