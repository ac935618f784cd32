#!/usr/bin/env python
"""Annotated frames out of the downloaded videos of SA-Co/Silver."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # runs from a clone that is not installed

from sam3.data.preparation.frame_extraction import main
from sam3.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
