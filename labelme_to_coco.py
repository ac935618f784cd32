#!/usr/bin/env python
"""Convert Labelme annotations to a COCO dataset: ``python labelme_to_coco.py --help``.

Runs from a checkout without installation; needs pycocotools, pillow, numpy and tqdm, not torch.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sam3.data.labelme import main
from sam3.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
