"""``report.html`` of a training run: what it learned, from what, with which settings, at what cost.

Reads the files of the run's folder only, so it can be written for any run at any time.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import sam3
from sam3.errors import DataError
from sam3.eval.confusion import BACKGROUND, CONFUSION_FILE, ConfusionMatrix
from sam3.eval.hits import counts_of
from sam3.io.files import read_json, write_text
from sam3.report.charts import bar_chart, charts, heat_map
from sam3.report.data_summary import DataSummary, summarize
from sam3.report.html import (
    Markup,
    Section,
    code,
    details,
    element,
    join,
    key_values,
    missing,
    number,
    page,
    paragraph,
    section,
    table,
    tiles,
)
from sam3.report.run_files import Line, RunFiles, read_run
from sam3.report.training_curves import EPOCH, curves
from sam3.report.validation_pictures import pictures
from sam3.train.meters import clock_text

REPORT = "report.html"


def write_training_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Write the report of the run in ``folder``; returns its path, ``<folder>/report.html`` if not given.

    Raises:
        DataError: ``folder`` is not the folder of a run.
    """
    run = read_run(folder)
    path = Path(output) if output is not None else run.folder / REPORT
    write_text(path, training_report(run))
    return path


def training_report(run: RunFiles) -> str:
    """The page."""
    name = "/".join(run.folder.resolve().parts[-2:])  # the last name alone is often "run"
    footer = f"written {datetime.now():%Y-%m-%d %H:%M} by sam3 {sam3.__version__} from the files of {run.folder}"
    return page(f"Training of {name}", list(_sections(run)), summary=_summary(run), footer=footer)


def _sections(run: RunFiles) -> list[Section]:
    return [
        section("Curves", curves(run)),
        section("Classes", _classes(run)),
        section("Confusion", _confusion(run)),
        section("Images", pictures(run.validation) if run.validation else missing(_no_validation(run))),
        section("Data", _data(run)),
        section("Machine and time", _machine(run)),
        section("Checkpoints", _checkpoints(run)),
        section("Configuration", _configuration(run)),
    ]


def _summary(run: RunFiles) -> Markup:
    last = run.val[-1] if run.val else {}
    done = int(max((line[EPOCH] for line in run.train), default=-1)) + 1
    epochs = run.setting("trainer.max_epochs")
    shown = {"epochs": f"{done} of {epochs}" if epochs else str(done)}
    for title, name in (("mask AP", "segm_AP"), ("box AP", "bbox_AP")):
        values = [value for line in run.val for key, value in line.items() if key.endswith(f"coco_eval_{name}")]
        if values:
            shown |= {f"last {title}": number(values[-1]), f"best {title}": number(max(values))}
    shown |= {title: number(value) for title, value in _headlines(last).items()}
    if run.train and run.train[-1].get("Trainer/seconds"):
        shown["time"] = clock_text(run.train[-1]["Trainer/seconds"])
    problems = [missing(sentence) for sentence in run.missing]
    return join([tiles(shown), *problems])


def _headlines(line: Line) -> dict[str, float]:
    """Metrics beside AP that deserve a place at the top."""
    wanted = {
        r"cgF1_eval_\w+_cgF1": "last cgF1",
        r"cgF1_eval_\w+_IL_MCC": "last IL_MCC",
        "wrong_prompt_rate_classes": "absent classes that fire",
        "wrong_prompt_rate_general": "outside phrases that fire",
        "drift": "drift",
    }
    names = {key.rpartition("/")[2]: key for key in line}
    return {
        title: line[key]
        for pattern, title in wanted.items()
        for name, key in names.items()
        if re.fullmatch(pattern, name)
    }


def _no_validation(run: RunFiles) -> str:
    return next((s for s in run.missing if "validation" in s or "shown" in s), "There is no validation to show.")


def _classes(run: RunFiles) -> Markup:
    """One row a class: how much of it there is, how well it is found."""
    last = run.val[-1] if run.val else {}
    ap = {
        kind: {key.rpartition("per_class_AP/")[2]: value for key, value in last.items() if f"/{meter}/per_class" in key}
        for kind, meter in (("mask AP", "segmentation"), ("box AP", "detection"))
    }
    kinds = [kind for kind, values in ap.items() if values]
    if run.validation is None:
        if not kinds:
            return missing(_no_validation(run))
        return table(["class", *kinds], [[name, *(ap[k].get(name) for k in kinds)] for name in ap[kinds[0]]])
    trained = _objects_per_class(run)
    rows = []
    for category_id, name in run.validation.names.items():
        hits = run.validation.hits[category_id]
        counts = counts_of(hits, run.validation.score_threshold)
        row = [name, trained.get(name), hits.num_objects, *(_not_negative(ap[kind].get(name)) for kind in kinds)]
        rows.append([*row, counts.precision, counts.recall, counts.mean_iou, counts.false_alarms, counts.misses])
    head = ["class", "objects in training", "in validation", *kinds]
    head += ["precision", "recall", "mean IoU of hits", "false alarms", "misses"]
    note = (
        f"AP of the last validation; the other columns count detections with scores above "
        f"{run.validation.score_threshold:g} and IoU of at least 0.5. A click on a heading sorts."
    )
    return table(head, rows, caption=note)


def _not_negative(value: float | None) -> float | None:
    return None if value is None or value < 0 else value


def _objects_per_class(run: RunFiles) -> dict[str, int]:
    file = run.setting("data.train.dataset.ann_file")
    try:
        return dict(summarize(file).per_class) if file else {}
    except DataError:
        return {}


def _confusion(run: RunFiles) -> Markup:
    """What the detections of each phrase lie on."""
    path = run.folder / "dumps" / "val" / CONFUSION_FILE
    if not path.is_file():
        return missing("The last validation wrote no confusion matrix.")
    matrix = ConfusionMatrix.from_dict(read_json(path))
    note = (
        f"Rows: the phrase that was asked. Columns: the class of the object that its detections lie on (score of at "
        f"least {matrix.score_threshold:g}, IoU of at least {matrix.iou_threshold:g}); {BACKGROUND}: on no object."
    )
    totals = [sum(row) or 1 for row in matrix.counts]
    shares = [[count / total for count in row] for row, total in zip(matrix.counts, totals, strict=True)]
    columns = [*matrix.classes, BACKGROUND]
    missed = dict(zip(matrix.classes, matrix.missed, strict=True))
    rows = [[p, a, missed.get(p)] for p, a in zip(matrix.prompts, matrix.asked, strict=True)]
    return join(
        [
            paragraph(note),
            heat_map(matrix.prompts, columns, matrix.counts, shares=shares, digits=0),
            details("Images asked, objects missed", table(["phrase", "images asked", "objects missed"], rows)),
        ]
    )


def _data(run: RunFiles) -> Markup:
    parts = []
    for split, title in (("train", "Training"), ("val", "Validation")):
        file = run.setting(f"data.{split}.dataset.ann_file")
        if not file:
            parts.append(missing(f"The configuration names no {title.lower()} data."))
            continue
        try:
            parts += [element("h3", title), paragraph(file, muted=True), _split(summarize(file))]
        except DataError as error:
            parts.append(missing(f"{title} data: {error}."))
    return join(parts)


def _split(data: DataSummary) -> Markup:
    facts = {
        "images": f"{data.images:,}, {data.empty_images:,} of them without objects",
        "objects": f"{data.objects:,}" + (f", {data.crowds:,} of them crowds" if data.crowds else ""),
        "width": f"{data.widths[0]} to {data.widths[2]} pixels, median {data.widths[1]:g}",
        "height": f"{data.heights[0]} to {data.heights[2]} pixels, median {data.heights[1]:g}",
    }
    return join(
        [
            key_values(facts),
            charts(
                bar_chart("objects by class", _largest(data.per_class), digits=0),
                bar_chart("images by number of objects", data.per_image, digits=0),
                bar_chart("objects by size", data.sizes, digits=0),
            ),
        ]
    )


def _largest(counts: Any, limit: int = 20) -> dict[str, int]:
    """The most frequent classes; the others as one bar."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    shown = dict(ranked[:limit])
    if len(ranked) > limit:
        shown[f"{len(ranked) - limit} other classes"] = sum(value for _, value in ranked[limit:])
    return shown


def _machine(run: RunFiles) -> Markup:
    facts = {name.replace("_", " "): value for name, value in run.machine.items() if value is not None}
    lines = [line for line in run.train if line.get("Trainer/seconds")]
    if lines:
        seconds = lines[-1]["Trainer/seconds"]
        facts["training and validation"] = clock_text(seconds)
        facts["an epoch with its validations"] = clock_text(seconds / (lines[-1][EPOCH] + 1))
    if lines and lines[-1].get("Trainer/images_per_second"):
        facts["last pace"] = f"{lines[-1]['Trainer/images_per_second']:.3g} images/s"
    if lines and lines[-1].get("Trainer/memory_gb"):
        facts["peak memory"] = f"{lines[-1]['Trainer/memory_gb']:.2f} GiB"
    return key_values(facts) if facts else missing("Neither machine.json nor times were recorded.")


def _checkpoints(run: RunFiles) -> Markup:
    if not run.checkpoints:
        return missing("checkpoints/ holds no file yet.")
    rows = [[file.name, file.bytes / 2**20, f"{file.written:%Y-%m-%d %H:%M}"] for file in run.checkpoints]
    return table(["file", "MiB", "written"], rows, digits=1)


def _configuration(run: RunFiles) -> Markup:
    if not run.config_text:
        return missing("config_resolved.yaml is missing.")
    return details("config_resolved.yaml", code(run.config_text))
