"""What a training run left in its folder, finished or not; what is missing is named, never guessed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sam3.errors import DataError
from sam3.eval.hits import Hits, find_hits
from sam3.eval.prediction_file import Record, read_predictions
from sam3.io.files import read_json
from sam3.train.logging_setup import JsonLines
from sam3.train.machine import MACHINE_FILE

Line = Mapping[str, Any]


@dataclass(frozen=True)
class CheckpointFile:
    """One file of ``checkpoints/``."""

    name: str
    bytes: int
    written: datetime


@dataclass(frozen=True)
class Validation:
    """The predictions of the last validation beside what is there."""

    truth: Mapping[str, Any]  # COCO, reduced to the validated images
    records: list[Record]
    iou_type: str
    img_folder: Path
    score_threshold: float

    @cached_property
    def hits(self) -> dict[int, Hits]:
        """Category id -> its detections at IoU 0.5."""
        return find_hits(self.truth, self.records, self.iou_type)

    @property
    def names(self) -> dict[int, str]:
        return {category["id"]: str(category["name"]) for category in self.truth["categories"]}


@dataclass(frozen=True)
class RunFiles:
    """The folder of a run, read once."""

    folder: Path
    config: Mapping[str, Any]
    config_text: str
    train: list[Line]  # of each epoch
    val: list[Line]  # of each validation
    machine: Mapping[str, Any]
    checkpoints: list[CheckpointFile]
    validation: Validation | None
    missing: list[str] = field(default_factory=list)  # sentences

    def setting(self, key: str, default: Any = None) -> Any:
        """A value of the resolved configuration by its dotted key."""
        node: Any = self.config
        for name in key.split("."):
            if not isinstance(node, Mapping) or name not in node:
                return default
            node = node[name]
        return node


def read_run(folder: str | Path) -> RunFiles:
    """Everything there is in the folder of a run.

    Raises:
        DataError: it is no folder of a run: neither a configuration nor statistics lie in it.
    """
    folder, missing = Path(folder).expanduser(), []
    config_file = folder / "config_resolved.yaml"
    if not config_file.is_file() and not (folder / "logs").is_dir():
        raise DataError(
            f"{folder} is not the folder of a training run: it has neither config_resolved.yaml nor logs/. "
            "A run's folder is its paths.experiment_log_dir"
        )
    text = config_file.read_text(encoding="utf-8") if config_file.is_file() else ""
    if not text:
        missing.append("config_resolved.yaml is missing, so the configuration and the data are unknown.")
    config = OmegaConf.to_container(OmegaConf.create(text))
    run = RunFiles(
        folder=folder,
        config=config,
        config_text=text,
        train=JsonLines(folder / "logs" / "train_stats.json").read(),
        val=JsonLines(folder / "logs" / "val_stats.json").read(),
        machine=_machine(folder / MACHINE_FILE, missing),
        checkpoints=list(_checkpoints(folder / "checkpoints")),
        validation=None,
        missing=missing,
    )
    validation = _read_validation(run)
    return RunFiles(**{**vars(run), "validation": validation})


def _machine(path: Path, missing: list[str]) -> Mapping[str, Any]:
    if not path.is_file():
        missing.append(f"{path.name} is missing, so the machine is unknown.")
        return {}
    try:
        return read_json(path)
    except DataError as error:
        missing.append(f"{error}.")
        return {}


def _checkpoints(folder: Path) -> Iterator[CheckpointFile]:
    for path in sorted(folder.glob("*")):
        if path.is_file() and not path.name.startswith("."):
            status = path.stat()
            yield CheckpointFile(path.name, status.st_size, datetime.fromtimestamp(status.st_mtime))


def _read_validation(run: RunFiles) -> Validation | None:
    """Predictions and annotations of the validation; what stands in the way is noted in ``run.missing``."""
    found = [kind for kind in ("segm", "bbox") if (_predictions(run.folder, kind)).is_file()]
    if not found:
        run.missing.append("dumps/val holds no predictions: no validation has finished yet.")
        return None
    annotations, images = (run.setting(f"data.val.dataset.{key}") for key in ("ann_file", "img_folder"))
    if not annotations or not images:
        run.missing.append("The configuration names no validation data, so predictions cannot be compared with it.")
        return None
    try:
        records, content = read_predictions(_predictions(run.folder, found[0])), read_json(annotations)
    except DataError as error:
        run.missing.append(f"Classes and images cannot be shown: {error}.")
        return None
    used = {record["image_id"] for record in records}  # every validated image has predictions, however unsure
    truth = {
        "images": [image for image in content["images"] if image["id"] in used],
        "annotations": [entry for entry in content["annotations"] if entry["image_id"] in used],
        "categories": content["categories"],
    }
    threshold = run.setting("trainer.checkpoint.score_threshold", 0.5)
    return Validation(truth, records, found[0], Path(images), float(threshold))


def _predictions(folder: Path, kind: str) -> Path:
    return folder / "dumps" / "val" / f"coco_predictions_{kind}.json"
