"""What a conversion did, and how that reads on a terminal."""

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam3.data.labelme_output import ConvertedImage
from sam3.errors import listed

_SINGLE, _MULTI = (f"sam3/train/conf/train_config_{kind}_class.yaml" for kind in ("single", "multi"))

_NO_TEXT = {"null", "true", "false", "nan", "inf"}  # plain words that the configuration reads as other values


@dataclass(frozen=True)
class BadFile:
    """A file that was left out, and why."""

    name: str  # below the Labelme folder
    reason: str


@dataclass(frozen=True)
class ConversionReport:
    """The outcome of one conversion."""

    output_dir: Path
    class_names: tuple[str, ...]
    images: tuple[ConvertedImage, ...]
    in_train: tuple[bool, ...]
    num_groups: int | None  # None = images were not grouped
    left_out_labels: Counter[str]  # label -> shapes
    skipped_shapes: Counter[tuple[str, str]]  # (label, shape type) -> shapes
    bad_files: tuple[BadFile, ...]
    unlabelled_images: tuple[str, ...]  # image files without annotation that were left out

    @property
    def num_train(self) -> int:
        """Number of training images."""
        return sum(self.in_train)

    @property
    def num_val(self) -> int:
        """Number of validation images."""
        return len(self.in_train) - self.num_train


def format_report(report: ConversionReport) -> str:
    """Summary table, what was left out, warnings, and the command that comes next."""
    paragraphs = [_table(report), _left_out(report), _warnings(report), _next_step(report)]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines)


def format_bad_files(bad_files: Sequence[BadFile]) -> str:
    """One line for each file: its name and the reason."""
    return "\n".join(f"  {bad.name}: {bad.reason}" for bad in bad_files)


def _table(report: ConversionReport) -> list[str]:
    head = ("class", "objects", "shapes", "images", "train images", "val images", "train objects", "val objects")
    rows = [(name, *_class_numbers(report, name)) for name in report.class_names]
    rows.append(("(no object)", 0, 0, *_image_numbers(report, [not image.instances for image in report.images]), 0, 0))
    totals = [sum(int(row[column]) for row in rows) for column in (1, 2, 6, 7)]
    images = _image_numbers(report, [True] * len(report.images))
    rows.append(("all", *totals[:2], *images, *totals[2:]))
    return _aligned([head, *rows])


def _class_numbers(report: ConversionReport, name: str) -> list[int]:
    instances = [[instance for instance in image.instances if instance.label == name] for image in report.images]
    in_train = sum(len(of) for of, side in zip(instances, report.in_train, strict=True) if side)
    objects, shapes = sum(map(len, instances)), sum(instance.num_shapes for of in instances for instance in of)
    return [objects, shapes, *_image_numbers(report, [bool(of) for of in instances]), in_train, objects - in_train]


def _image_numbers(report: ConversionReport, counted: Sequence[bool]) -> tuple[int, int, int]:
    """Images that count: all, in train, in val."""
    in_train = sum(count and side for count, side in zip(counted, report.in_train, strict=True))
    return sum(counted), in_train, sum(counted) - in_train


def _aligned(rows: Sequence[Sequence[object]]) -> list[str]:
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(_display_width, column)) for column in zip(*texts, strict=True)]
    lines = []
    for first, *others in texts:
        padding = " " * (widths[0] - _display_width(first))
        lines.append("  ".join([first + padding, *(t.rjust(w) for t, w in zip(others, widths[1:], strict=True))]))
    return lines


def _display_width(text: str) -> int:
    """Columns on a terminal: East Asian wide characters take two, combining marks none."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(bool(unicodedata.combining(character)) for character in text)


def _left_out(report: ConversionReport) -> list[str]:
    lines = []
    if report.left_out_labels:
        lines.append("labels left out: " + counted(report.left_out_labels))
    if report.skipped_shapes:
        named = Counter({f"{kind} {label!r}": count for (label, kind), count in report.skipped_shapes.items()})
        lines.append("shapes of unsupported types left out: " + counted(named))
    if report.unlabelled_images:
        lines.append(
            f"images without a JSON file left out: {listed(report.unlabelled_images, limit=3)}; "
            "if they show none of the objects, pass --include_unlabelled"
        )
    turned = sum(image.source.is_turned for image in report.images)
    if turned:
        lines.append(f"images written anew, turned upright by their EXIF orientation: {turned}")
    if report.num_groups is not None:
        lines.append(f"groups kept whole: {report.num_groups}")
    if report.bad_files:
        lines += [f"bad files left out: {len(report.bad_files)}", format_bad_files(report.bad_files)]
    return lines


def counted(counts: Counter[str]) -> str:
    """``cat (3), dog (1)``, most frequent first."""
    return ", ".join(f"{name} ({n})" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _warnings(report: ConversionReport) -> list[str]:
    if not report.num_train or not report.num_val:
        empty = "val" if report.num_train else "train"
        return [f"warning: {empty} has no images; training needs both, see --train_split and --group_by"]
    lines = []
    one_sided = [name for name in report.class_names if 0 in _class_numbers(report, name)[3:5]]
    if one_sided:
        lines.append(f"warning: classes with objects in only one of train and val: {listed(one_sided)}")
    copies = sorted(set.intersection(*(_digests(report, side) for side in (True, False))))
    if copies:
        names = [image.key for image in report.images if image.source.digest in copies]
        lines.append(
            f"warning: copies of one image in both train and val make validation look too good: {listed(names)}; "
            "delete the copies, or see --group_by"
        )
    return lines


def _digests(report: ConversionReport, side: bool) -> set[str]:
    return {
        image.source.digest for image, in_train in zip(report.images, report.in_train, strict=True) if in_train == side
    }


def _next_step(report: ConversionReport) -> list[str]:
    written = f"written to {report.output_dir}: {report.num_train} train and {report.num_val} val images"
    if not report.num_train or not report.num_val:
        return [written]
    return [f"{written}. Next, train on them:", f"  {training_command(report.output_dir, report.class_names)}"]


def training_command(output_dir: Path, class_names: Sequence[str]) -> str:
    """The shell command that trains on the converted folder."""
    values = {"paths.dataset_root": str(output_dir), "paths.experiment_log_dir": f"runs/{output_dir.resolve().name}"}
    if len(class_names) == 1:
        values["dataset.class_name"] = class_names[0]
    words = ["python", "sam3/train/train.py", "-c", _SINGLE if len(class_names) == 1 else _MULTI]
    return shlex.join(words + [f"{key}={_config_value(value)}" for key, value in values.items()])


def _config_value(text: str) -> str:
    """``text`` so that the configuration reads it as text: quoted unless it is plain words or a plain path."""
    if re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./ -]*(?<! )", text) and text.lower() not in _NO_TEXT:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
