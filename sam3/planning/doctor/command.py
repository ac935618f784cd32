"""``sam3 doctor``: what of a data set would stop training, or teach something wrong."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from sam3.arguments import CommandParser
from sam3.errors import UserError
from sam3.io.files import write_json

_T = TypeVar("_T")

DESCRIPTION = """\
Examine a COCO data set before training: every defect that stops a run or teaches something wrong.

  sam3 doctor data/bolts
  sam3 doctor data/bolts --class_name bolt --json findings.json
  sam3 doctor data/bolts --config train_config_multi_class --fix data/bolts_repaired
  sam3 doctor boxes.json --images photos

DATA is a folder with train/ and val/, each images/ and annotations.json (or Roboflow's _annotations.coco.json), or
one annotation file. Every picture is decoded, because a truncated file shows itself no sooner; --quick reads headers
only. Exit code: 0 nothing worse than a warning, 1 errors (with --strict also warnings), 2 the command is wrong.
With --fix the exit code is that of the repaired copy."""


def main(argv: Sequence[str] | None = None) -> int:
    """Examine, print, and repair a copy if asked to.

    Raises:
        UserError: what the user gave cannot be used.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    arguments = parser.parse_intermixed_args(given) if given else parser.parse_args(given)
    from sam3.planning.doctor.examination import examine
    from sam3.planning.doctor.locate import find_splits
    from sam3.planning.doctor.repair import write_repaired
    from sam3.planning.doctor.report import format_table, to_dict

    settings, data = _settings(arguments)
    examination = examine(find_splits(data, arguments.images), settings, _bar("examining"))
    print(format_table(examination, examples=arguments.examples))
    result = to_dict(examination)
    if arguments.fix is not None:
        count = write_repaired(examination, arguments.fix, _bar("copying"))
        examination = examine(find_splits(arguments.fix), settings, _bar("examining the copy"))
        print(f"\n{count} findings repaired in {arguments.fix} (see repairs.json there). What is left:\n")
        print(format_table(examination, examples=arguments.examples))
        result["after_fix"] = to_dict(examination)
    if arguments.json is not None:
        write_json(arguments.json, result, indent=1)
    return _exit_code(examination, strict=arguments.strict)


def _parser() -> CommandParser:
    parser = CommandParser("doctor", description=DESCRIPTION)
    parser.add_argument("data", nargs="?", type=Path, metavar="DATA", help="folder or annotation file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="with --config: settings that win over it")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="pictures of a single annotation file")
    parser.add_argument("-c", "--config", help="training configuration: its data, classes, prompts and limits count")
    parser.add_argument(
        "--class_name", action="append", default=[], metavar="NAME", help="class that must be there; may be repeated"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all findings to this file")
    parser.add_argument("--fix", type=Path, metavar="NEW_FOLDER", help="write a repaired copy; the input is only read")
    parser.add_argument("--quick", action="store_true", help="headers only: truncated files and re-encoded copies pass")
    parser.add_argument("--strict", action="store_true", help="exit code 1 for warnings, too")
    parser.add_argument("--examples", type=int, default=3, metavar="N", help="places shown a defect (default: 3)")
    parser.add_argument(
        "--workers", type=int, default=min(4, os.cpu_count() or 1), metavar="N", help="threads (default: %(default)s)"
    )
    return parser


def _settings(arguments):
    """What to hold the data against, and where it lies."""
    from dataclasses import replace

    from sam3.planning.doctor.settings import Settings

    data, overrides = arguments.data, list(arguments.overrides)
    if arguments.config is None:
        if data is None or overrides:
            raise UserError("sam3 doctor needs one DATA, a folder or an annotation file, or --config")
        settings = Settings()
    else:
        if data is not None and "=" in str(data) and not data.exists():  # the first of the overrides
            data, overrides = None, [str(data), *overrides]
        settings, data = Settings.from_config(arguments.config, overrides, data)
    if arguments.class_name:
        settings = settings.with_class_names(tuple(arguments.class_name))
    return replace(settings, decode=not arguments.quick, workers=arguments.workers), data


def _bar(title: str):
    def progress(items: Iterable[_T], total: int) -> Iterable[_T]:
        return tqdm(items, total=total, desc=title, unit="image", leave=False, disable=None)

    return progress


def _exit_code(examination, *, strict: bool) -> int:
    from sam3.planning.doctor.findings import Severity

    bad = examination.count(Severity.ERROR) + (examination.count(Severity.WARNING) if strict else 0)
    return 1 if bad else 0
