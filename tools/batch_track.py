#!/usr/bin/env python
"""Find objects in videos and follow them; the same as ``sam3 track``. Guide: docs/track.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone that is not installed

from sam3.errors import run_command
from sam3.track.command import main

if __name__ == "__main__":
    sys.exit(run_command(main))
