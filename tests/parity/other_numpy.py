"""The same numbers with another NumPy: ``python -m tests.parity.other_numpy DIR [--numpy 1.26.4] [--venv FOLDER]``.

Makes a virtual environment with that NumPy and what evaluation needs besides (no torch), evaluates all image, COCO and
video cases of the fixture folder DIR with both, and compares every number. Exit code 1 if one differs by more than
1e-12. Needs a package index where the environment does not exist yet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1e-12


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder with image/, coco/, video/")
    parser.add_argument("--numpy", default="1.26.4", help="version to compare with (1.26.4)")
    parser.add_argument("--venv", type=Path, help="where the environment is, or is made (a temporary folder)")
    parser.add_argument("--numbers", action="store_true", help="print the numbers of this interpreter as JSON, no more")
    options = parser.parse_args(argv)
    if options.numbers:
        print(json.dumps(numbers(options.directory)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        other = environment(options.venv or Path(scratch) / "venv", options.numpy)
        (here, ours), (there, theirs) = (_run(python, options.directory) for python in (Path(sys.executable), other))
    return _report(here, ours, there, theirs)


def numbers(directory: Path) -> dict[str, Any]:
    """Versions, and every number under the name of its case."""
    import numpy
    import scipy

    found = {f"{case} {key}": value for case, values in _cases(directory) for key, value in _flat(values)}
    return {"versions": f"numpy {numpy.__version__}, scipy {scipy.__version__}", "numbers": found}


def _cases(directory: Path) -> Iterator[tuple[str, Any]]:
    from sam3.eval.cgf1_files import evaluate_files
    from sam3.eval.coco_ap import ENGINES, coco_ap
    from sam3.eval.veval import evaluate_files as evaluate_videos

    for iou_type in ("segm", "bbox"):
        for case in sorted(path.parent for path in (directory / "image").glob("*/expected.json")):
            result = evaluate_files(case / "pred.json", sorted(case.glob("gt_*.json")), iou_type)
            yield f"image/{case.name} {iou_type}", result.cgf1.to_dict()
        for engine in ENGINES:
            ap = coco_ap(directory / "coco/gt.json", directory / "coco/pred.json", iou_type, engine=engine)
            yield f"coco {engine}", ap.to_dict()
    for case in sorted(path.parent for path in (directory / "video").glob("*/expected.json")):
        yield f"video/{case.name}", evaluate_videos(case / "gt.json", case / "pred.json").to_dict()


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(part, f"{name}/{key}")
    else:
        yield name, value


def environment(folder: Path, version: str) -> Path:
    """The interpreter of a virtual environment with that NumPy."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        packages = [f"numpy=={version}", "scipy>=1.11", "pycocotools>=2.0.8", "tqdm"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def _run(python: Path, directory: Path) -> tuple[str, dict[str, float]]:
    command = [python, "-m", "tests.parity.other_numpy", directory.resolve(), "--numbers"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    found = json.loads(done.stdout)
    return found["versions"], found["numbers"]


def _report(here: str, ours: dict[str, float], there: str, theirs: dict[str, float]) -> int:
    errors = {name: abs(value - theirs.get(name, float("inf"))) for name, value in ours.items()}
    name, error = max(errors.items(), key=lambda item: item[1])
    equal = sum(value == theirs.get(name) for name, value in ours.items())
    print(f"{here}\n{there}\n{equal} of {len(ours)} numbers equal; largest difference {error:.3g} ({name})")
    return 0 if ours.keys() == theirs.keys() and error <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
