"""The prompt x class confusion matrix of a validation, as the run wrote it."""

from dataclasses import dataclass
from pathlib import Path

from sam3.io.files import read_json


@dataclass(frozen=True)
class Confusion:
    """What was found when a phrase was asked."""

    prompts: list[str]  # rows
    classes: list[str]  # columns
    counts: list[list[float]]


def read_confusion(folder: str | Path) -> Confusion | None:
    """The matrix of the last validation of the run in ``folder``; None if it wrote none."""
    path = Path(folder) / "dumps" / "val" / "confusion.json"
    if not path.is_file():
        return None
    content = read_json(path)
    return Confusion(content["prompts"], content["classes"], content["matrix"])
