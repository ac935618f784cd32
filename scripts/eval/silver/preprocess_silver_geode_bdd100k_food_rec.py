#!/usr/bin/env python
"""GeoDE, BDD100K and MyFoodRepo-273 for SA-Co/Silver: copy local raw pictures to the annotated names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # runs from a clone that is not installed

from sam3.data.preparation.renamed_copies import main
from sam3.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
