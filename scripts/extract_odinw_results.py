#!/usr/bin/env python
"""One table of the AP of many runs; see ``--help`` and docs/job_lists.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone that is not installed

from sam3.errors import run_command
from sam3.eval.job_results import main_odinw as main

if __name__ == "__main__":
    sys.exit(run_command(main))
