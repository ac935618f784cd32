"""Peak memory of a whole VEval evaluation: ``python benchmarks/eval/video_memory.py [FOLDER]``.

500 videos x 60 frames x 6 objects and a phrase table of 51,248 entries, as the published files have; the evaluation
runs in a process of its own, through files, all metrics at once. FOLDER keeps the data, made if absent (about 200 MB).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sam3.eval.veval import evaluate_files

LIMIT = 600  # MiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "sam3_bench_memory")
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--categories", type=int, default=51248)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.folder))
        return
    if not (options.folder / "pred.json").exists():
        sizes = ["--videos", str(options.videos), "--categories", str(options.categories)]
        maker = Path(__file__).with_name("video_data.py")
        subprocess.run([sys.executable, maker, options.folder, *sizes], check=True)
    megabytes = sum((options.folder / name).stat().st_size for name in ("gt.json", "pred.json")) / 1e6
    print(f"{options.videos} videos, {options.categories} phrases, files of {megabytes:.0f} MB")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, options.folder, "--measure"]
    print(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout, end="")


def measure(folder: Path) -> str:
    """One line: peak resident memory before and after the evaluation, and its time."""
    imported, start = _peak(), time.process_time()
    evaluate_files(folder / "gt.json", folder / "pred.json", folder / "result.json")
    peak, seconds = _peak(), time.process_time() - start
    return f"peak {peak:.0f} MiB (limit {LIMIT}; {imported:.0f} after the imports), {seconds:.1f} CPU seconds"


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
