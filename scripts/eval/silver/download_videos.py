#!/usr/bin/env python
"""The videos behind four SA-Co/Silver data sets, by the programs of their owners."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # runs from a clone that is not installed

from sam3.data.preparation.source_videos import main
from sam3.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
