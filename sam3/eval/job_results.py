"""One table from the ``val_stats.json`` of many runs: AP of each data set, and means.

A run folder is named after its data set (``roboflow_100_images``) or data set and seed (``odinw_10shot``). A run that
is missing, wrote nothing, or has not reached its last epoch is named and never silently left out of a mean.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from sam3.arguments import CommandParser
from sam3.errors import DataError
from sam3.io.files import read_json, write_text

METRIC = "coco_eval_bbox_AP"
STATS = Path("logs") / "val_stats.json"
_DONE = 0.999  # share of the epochs
Grouping = Callable[[str], str]  # name of a run -> its row of means


@dataclass(frozen=True)
class JobResult:
    """One run."""

    name: str
    value: float | None  # of the metric, in [0, 1]
    epoch: int | None  # of the value, counted from 1
    problem: str | None = None  # why it takes no part in a mean

    @property
    def counts(self) -> bool:
        return self.problem is None


def read_jobs(
    folder: Path, expected: Sequence[str] = (), *, metric: str = METRIC, best: bool = False
) -> list[JobResult]:
    """The results below ``folder`` by name; those ``expected`` that are not there are missing.

    Args:
        metric: the end of the metric's name.
        best: the largest value of all validations instead of the last.

    Raises:
        DataError: there is no such folder, or nothing in it and nothing expected.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    names = {path.name for path in folder.iterdir() if (path / "logs").is_dir() or (path / "config.yaml").is_file()}
    if not names and not expected:
        raise DataError(f"{folder} holds no run folder (NAME/{STATS.as_posix()})")
    return [_read_job(folder, name, metric, best) for name in sorted(names | set(expected))]


def _read_job(folder: Path, name: str, metric: str, best: bool) -> JobResult:
    path = folder / name / STATS
    if not (folder / name).is_dir():
        return JobResult(name, None, None, "missing: never started")
    if not path.is_file():
        return JobResult(name, None, None, "failed: no validation was written")
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = [(_value(line, metric), int(line["Trainer/epoch"]) + 1, float(line["Trainer/where"])) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        return JobResult(name, None, None, f"failed: {path} is damaged ({error})")
    rows = [row for row in rows if row[0] is not None]
    if not rows:
        return JobResult(name, None, None, f"failed: no value of {metric} was written")
    value, epoch, _ = max(rows, key=lambda row: row[0]) if best else rows[-1]
    where = rows[-1][2]
    if 0 < where < _DONE:  # 0: a validation alone
        return JobResult(name, value, epoch, f"unfinished: at {where:.0%} of its epochs")
    return JobResult(name, value, epoch, "no objects to find" if value < 0 else None)


def _value(line: Mapping[str, float], metric: str) -> float | None:
    return next((float(value) for key, value in line.items() if key.endswith(metric)), None)


def means_by(results: Sequence[JobResult], group_of: Grouping) -> dict[str, tuple[float, int]]:
    """Group -> (mean, runs), of the runs that count."""
    groups: dict[str, list[float]] = {}
    for result in results:
        if result.counts:
            groups.setdefault(group_of(result.name), []).append(result.value)
    return {name: (fmean(values), len(values)) for name, values in sorted(groups.items())}


def without_seed(name: str) -> str:
    """``Aquarium_seed30`` -> ``Aquarium``."""
    return re.sub(r"_seed\d+$", "", name)


def markdown_table(results: Sequence[JobResult], group_of: Grouping | None = None, *, metric: str = METRIC) -> str:
    """Runs, means of groups, mean of all, and a list of what is missing. AP in per cent."""
    rows = [f"| run | {metric} | epoch | |", "|---|---|---|---|"]
    for result in results:
        value = "" if result.value is None else f"{100 * result.value:.1f}"
        rows.append(f"| {result.name} | {value} | {result.epoch or ''} | {result.problem or ''} |")
    if group_of is not None:
        for name, (mean, count) in means_by(results, group_of).items():
            rows.append(f"| **{name}** | {100 * mean:.1f} | | mean of {count} |")
    counted = [result.value for result in results if result.counts]
    mean = f"{100 * fmean(counted):.1f}" if counted else ""
    rows.append(f"| **all** | {mean} | | mean of {len(counted)} of {len(results)} runs |")
    return "\n".join(rows) + "\n"


def csv_table(results: Sequence[JobResult], *, metric: str = METRIC) -> str:
    """One line a run; AP in [0, 1]; without means, which are easily computed and easily mistaken for a run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", metric, "epoch", "problem"])
    for result in results:
        writer.writerow([result.name, result.value, result.epoch, result.problem])
    return text.getvalue()


def main_roboflow(argv: Sequence[str] | None = None) -> int:
    """``scripts/extract_roboflow_vl100_results.py``; 1 if a run is missing, failed or unfinished."""
    parser = _parser(
        "extract_roboflow_vl100_results", "AP of every Roboflow-100-VL run, by super-category, and the mean."
    )
    parser.add_argument(
        "--groups", type=Path, metavar="FILE", help="JSON object, data set -> super-category, for means of these"
    )
    arguments = parser.parse_args(argv)
    groups = {} if arguments.groups is None else read_json(arguments.groups)
    if not isinstance(groups, dict):
        raise DataError(f"{arguments.groups} must hold an object, data set -> super-category")
    return _collect(arguments, (lambda name: groups.get(name, "(no super-category)")) if groups else None)


def main_odinw(argv: Sequence[str] | None = None) -> int:
    """``scripts/extract_odinw_results.py``; 1 if a run is missing, failed or unfinished."""
    parser = _parser(
        "extract_odinw_results", "AP of every ODinW13 run, the mean of the seeds of each data set, and of all."
    )
    return _collect(parser.parse_args(argv), without_seed)


def _parser(name: str, description: str) -> CommandParser:
    parser = CommandParser(name, description=description)
    parser.add_argument("--res_dir", type=Path, required=True, help="folder that holds the run folders")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the data sets: a run of each is expected")
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[], help="of each data set a run NAME_seedN is expected"
    )
    parser.add_argument("--best", action="store_true", help="the best validation of each run instead of its last")
    parser.add_argument("--metric", default=METRIC, help="end of the metric's name (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write .md or .csv instead of printing")
    return parser


def _collect(arguments, group_of: Grouping | None) -> int:
    results = read_jobs(
        arguments.res_dir, _expected(arguments.data, arguments.seeds), metric=arguments.metric, best=arguments.best
    )
    if arguments.output is None:
        print(markdown_table(results, group_of, metric=arguments.metric), end="")
    elif arguments.output.suffix == ".csv":
        write_text(arguments.output, csv_table(results, metric=arguments.metric))
    else:
        write_text(arguments.output, markdown_table(results, group_of, metric=arguments.metric))
    return 0 if all(result.counts for result in results) else 1


def _expected(data: Path | None, seeds: Sequence[int]) -> list[str]:
    if data is None:
        return []
    if not data.is_dir():
        raise DataError(f"--data {data}: there is no such folder")
    names = [path.name for path in data.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [f"{name}_seed{seed}" for name in names for seed in seeds] if seeds else names
