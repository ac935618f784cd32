"""What validation measures on (image, phrase) pairs, absent phrases included: cgF1, wrong prompts, confusion.

Files in ``dumps/val``: ``concept_pairs.json`` (every pair asked, and the phrases), ``concept_predictions_<kind>.json``
(detections at or above 0.5, from which the numbers can be computed again), ``confusion_matrix.json``
(:mod:`sam3.eval.confusion`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam3.data.image_dataset import ImageDataset
from sam3.eval.cgf1 import SCORE_THRESHOLD
from sam3.eval.concepts import ConceptResult, ConceptTruth, judge_concepts
from sam3.eval.confusion import CONFUSION_FILE, confusion_matrix
from sam3.eval.prediction_file import Record, write_predictions
from sam3.io.files import write_json


class ConceptMeter:
    """Judges the records of a validation.

    Args:
        dataset: validation data.
        ground_truth: its COCO annotations.
        folder: for the files.
        iou_type: ``"segm"`` or ``"bbox"``.
    """

    def __init__(self, dataset: ImageDataset, ground_truth: Mapping[str, Any], folder: Path, *, iou_type: str) -> None:
        self.folder = folder
        self.iou_type = iou_type
        self.asked = dataset.asked_pairs()
        self.phrases = dataset.phrases
        self.extra_phrases = {} if dataset.extra is None else _numbered(dataset.extra.phrases)
        self.truth = ConceptTruth.of(ground_truth, iou_type)

    @property
    def is_defined(self) -> bool:
        """Whether cgF1 can say anything: both positive and negative pairs are asked."""
        is_positive = [key in self.truth.objects for key in self.asked if key not in self.truth.unclear]
        return any(is_positive) and not all(is_positive)

    def measure(self, records: Sequence[Record]) -> ConceptResult:
        """The numbers; writes the files."""
        confident = [record for record in records if record["score"] >= SCORE_THRESHOLD]
        matrix = confusion_matrix(self.truth, confident, self.asked, self.phrases)
        asked_extra = sorted({category_id for _, category_id in self.asked if category_id < 0}, reverse=True)
        phrases = self.phrases | {number: self.extra_phrases[number] for number in asked_extra}
        write_json(self.folder / "concept_pairs.json", {"phrases": phrases, "pairs": self.asked})
        write_predictions(self.folder / f"concept_predictions_{self.iou_type}.json", confident)
        write_json(self.folder / CONFUSION_FILE, matrix.to_dict())
        return judge_concepts(self.truth, confident, self.asked)


def _numbered(phrases: Sequence[str]) -> dict[int, str]:
    return {-1 - place: phrase for place, phrase in enumerate(phrases)}
