#!/usr/bin/env python
"""All video metrics of SA-Co/VEval; the same as ``sam3 eval veval``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # runs from a clone that is not installed

from sam3.errors import run_command
from sam3.eval.veval_command import main

if __name__ == "__main__":
    sys.exit(run_command(main))
