#!/usr/bin/env python
"""SA-Co/VEval annotations without the YT-Temporal-1B videos that can no longer be had."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # runs from a clone that is not installed

from sam3.data.preparation.yt1b_annotations import main
from sam3.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
