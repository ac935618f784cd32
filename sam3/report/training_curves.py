"""The curves of a training run from its lines of statistics (names: spec/training.md 3.7)."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sam3.report.charts import Points, charts, line_chart
from sam3.report.html import Markup, details, join, missing, paragraph
from sam3.report.run_files import Line, RunFiles

EPOCH = "Trainer/epoch"
LOG_FROM = 20.0  # ratio of largest to smallest value from which a loss is drawn logarithmically
HOW = "All over the epochs; pointing at a chart shows its values."
MAX_CLASSES = 8  # curves of one chart

CONCEPTS = "concepts"  # the meter of (image, phrase) pairs
CONCEPT_CHARTS = {  # title -> metric -> its name in the chart
    "cgF1": {
        "cgF1": "cgF1",
        "cgF1@0.5": "at IoU 0.5",
        "cgF1@0.75": "at IoU 0.75",
        "positive_micro_F1": "where present",
    },
    "is the phrase there?": {"IL_MCC": "MCC", "IL_precision": "precision", "IL_recall": "recall"},
    "wrong prompts that fire": {
        "wrong_prompt_rate_classes": "absent classes",
        "wrong_prompt_rate_general": "phrases from outside",
    },
    "drift from the starting weights": {
        "drift": "drift",
        "drift_found_at_start": "found at the start",
        "drift_silent_at_start": "silent at the start",
    },
}

_BRANCH = re.compile(r"_aux_\d|_o2m")
_LOSS = re.compile(r"Losses/(?P<phase>train|val)_[^_]+_(?P<name>.+)")
_METER = re.compile(r"Meters_val/[^/]+/(?P<meter>[^/]+)/(?P<name>.+)")
_COCO = re.compile(r"coco_eval_(?P<kind>bbox|segm)_(?P<metric>.+)")
_CLASS = "per_class_AP/"


def curves(run: RunFiles) -> Markup:
    """Losses, metrics, learning rates, pace; the parts of the loss are folded away."""
    if not run.train and not run.val:
        return missing("No epoch has finished yet: logs/train_stats.json and logs/val_stats.json hold no line.")
    shown = charts(
        *_loss_charts(run, lambda name: name == "loss"),
        *_ap_charts(run.val),
        *_class_charts(run.val),
        *_concept_charts(run.val),
        *_other_metric_charts(run.val),
        _learning_rates(run.train),
        *_pace_charts(run.train),
    )
    parts = _loss_charts(run, lambda name: name != "loss" and not _BRANCH.search(name))
    branches = _loss_charts(run, lambda name: bool(_BRANCH.search(name)))
    return join(
        [
            paragraph(HOW),
            shown,
            details("Parts of the loss", charts(*parts)) if parts else "",
            details("Parts of the loss on intermediate layers and one-to-many queries", charts(*branches))
            if branches
            else "",
        ]
    )


def points_of(lines: Sequence[Line], key: str) -> Points:
    """(epoch counted from 1, value) of one name; values of a later line of the same epoch win."""
    found = {int(line[EPOCH]) + 1: line[key] for line in lines if key in line and line.get(EPOCH) is not None}
    return sorted(found.items())


def keys_of(lines: Iterable[Line]) -> list[str]:
    """All names, in order of first appearance."""
    return list(dict.fromkeys(key for line in lines for key in line))


def _loss_charts(run: RunFiles, wanted: Callable[[str], bool]) -> list[Markup]:
    """One chart for each component: training and validation."""
    components: dict[str, dict[str, Points]] = {}
    for lines in (run.train, run.val):
        for key in keys_of(lines):
            parts = _LOSS.fullmatch(key)
            if parts and wanted(parts["name"]):
                phase = {"train": "training", "val": "validation"}[parts["phase"]]
                components.setdefault(parts["name"], {})[phase] = points_of(lines, key)
    figures = [line_chart(name, series, log=_spans_much(series)) for name, series in components.items()]
    return [figure for figure in figures if figure is not None]


def _spans_much(series: dict[str, Points]) -> bool:
    values = [y for points in series.values() for _, y in points if y is not None]
    return bool(values) and min(values) > 0 and max(values) / min(values) > LOG_FROM


def _meters(lines: Sequence[Line]) -> dict[str, tuple[str, str]]:
    """Key -> (meter, name)."""
    found = {key: _METER.fullmatch(key) for key in keys_of(lines)}
    return {key: (parts["meter"], parts["name"]) for key, parts in found.items() if parts}


def _ap_charts(val: Sequence[Line]) -> list[Markup | None]:
    """AP, AP50, AP75 of masks and of boxes; -1 means that there is nothing to find."""
    kinds: dict[str, dict[str, Points]] = {}
    for key, (_, name) in _meters(val).items():
        parts = _COCO.fullmatch(name)
        if parts and parts["metric"] in ("AP", "AP_50", "AP_75"):
            kinds.setdefault(parts["kind"], {})[parts["metric"].replace("_", "")] = _not_negative(points_of(val, key))
    titles = {"segm": "mask AP", "bbox": "box AP"}
    return [line_chart(titles[kind], kinds[kind]) for kind in ("segm", "bbox") if kind in kinds]


def _class_charts(val: Sequence[Line]) -> list[Markup | None]:
    """AP of each class by the meter that counts; of many classes those that are worst at the end."""
    meters = _meters(val)
    judged = "segmentation" if any(meter == "segmentation" for meter, _ in meters.values()) else "detection"
    series = {
        name.removeprefix(_CLASS): _not_negative(points_of(val, key))
        for key, (meter, name) in meters.items()
        if meter == judged and name.startswith(_CLASS)
    }
    kind = {"segmentation": "mask", "detection": "box"}[judged]
    if len(series) < 2:
        return []
    worst = sorted(series, key=lambda name: (series[name][-1][1] is None, series[name][-1][1]))[:MAX_CLASSES]
    note = None if len(series) <= MAX_CLASSES else f"the {MAX_CLASSES} worst of {len(series)} classes"
    return [line_chart(f"{kind} AP by class", {n: series[n] for n in series if n in worst}, note=note)]


def _concept_charts(val: Sequence[Line]) -> list[Markup | None]:
    """Phrases as such: cgF1 and its halves, wrong prompts that fire, the drift from the starting weights."""
    measured = {name.rpartition("_eval_")[2]: key for key, (meter, name) in _meters(val).items() if meter == CONCEPTS}
    measured = {re.sub("^(segm|bbox)_", "", name): key for name, key in measured.items()}
    figures = []
    for title, members in CONCEPT_CHARTS.items():
        series = {label: points_of(val, measured[name]) for name, label in members.items() if name in measured}
        figures.append(line_chart(title, {label: _not_negative(points) for label, points in series.items()}))
    return figures


def _other_metric_charts(val: Sequence[Line]) -> list[Markup | None]:
    """Whatever else a validation measures, one chart a name."""
    others = {
        key: f"{meter}: {name}"
        for key, (meter, name) in _meters(val).items()
        if meter != CONCEPTS and not _COCO.fullmatch(name) and not name.startswith(_CLASS)
    }
    return [line_chart(title, {"validation": points_of(val, key)}) for key, title in others.items()]


def _learning_rates(train: Sequence[Line]) -> Markup | None:
    rates = [key for key in keys_of(train) if key.startswith("Optim/") and key.endswith("/lr")]
    series = {key.removeprefix("Optim/").removesuffix("/lr"): points_of(train, key) for key in rates[:MAX_CLASSES]}
    return line_chart("learning rate", series, log=_spans_much(series), note="at the end of each epoch")


def _pace_charts(train: Sequence[Line]) -> list[Markup | None]:
    return [
        line_chart("images per second", {"training": points_of(train, "Trainer/images_per_second")}),
        line_chart("peak memory, GiB", {"training": points_of(train, "Trainer/memory_gb")}),
    ]


def _not_negative(points: Points) -> list[tuple[float, Any]]:
    return [(x, None if y is None or y < 0 else y) for x, y in points]
