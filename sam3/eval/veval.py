"""The evaluation of SA-Co/VEval: all metrics of one prediction file in one pass over the videos.

Source: spec/evaluation.md 3.8.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam3.data.saco_video import PairId, read_ground_truth
from sam3.eval.masklet_ap import MaskletAp, MaskletApTotals
from sam3.eval.masklet_file import read_masklets
from sam3.eval.phota import Phota, PhotaTotals
from sam3.eval.teta import Teta, TetaTotals
from sam3.eval.video_cgf1 import VideoCgf1, VideoCgf1Totals
from sam3.eval.video_pairs import KINDS, VideoData
from sam3.io.files import write_json


@dataclass(frozen=True)
class VevalResult:
    """The numbers of one prediction file."""

    ap: MaskletAp
    teta: Teta
    phota: Phota
    cgf1: VideoCgf1
    pairs: list[dict[str, Any]] = field(repr=False)  # one row for each (video, phrase)

    def to_dict(self) -> dict[str, Any]:
        """``dataset_results`` (54 numbers; 18 more with tagged annotations) and ``video_np_results``, as published."""
        parts = (self.ap, self.teta, self.phota, self.cgf1)
        numbers = {key: value for part in parts for key, value in part.to_dict().items()}
        return {"dataset_results": numbers, "video_np_results": self.pairs}


def evaluate(data: VideoData, *, progress: bool = False) -> VevalResult:
    """All metrics of masklets against their ground truth; one video is worked on at a time."""
    data.require(KINDS)
    ap, teta = MaskletApTotals(data.truth), TetaTotals(data)
    phota, cgf1 = PhotaTotals(data.truth), VideoCgf1Totals(data.truth)
    videos = data.videos(share=True)
    for tracks in tqdm(videos, total=len(data.truth.videos), unit="video", disable=not progress):
        for totals in (ap, teta, phota, cgf1):
            totals.add(tracks)
    found_phota, found_cgf1 = phota.result(), cgf1.result()
    rows = _pair_rows(found_phota.pair_dicts(), found_cgf1.pair_dicts())
    return VevalResult(ap.result(), teta.result(), found_phota, found_cgf1, rows)


def evaluate_files(
    ground_truth: str | Path, predictions: str | Path, result: str | Path | None = None, *, progress: bool = False
) -> VevalResult:
    """Evaluate a prediction file, and write the result file if its path is given (whole or not at all).

    Raises:
        DataError: a file cannot be used; the message names it, the entry and the field.
    """
    truth = read_ground_truth(ground_truth)
    found = evaluate(VideoData(truth, read_masklets(predictions, truth)), progress=progress)
    if result is not None:
        write_json(result, found.to_dict(), indent=4)
    return found


def _pair_rows(*parts: dict[PairId, dict[str, float]]) -> list[dict[str, Any]]:
    """One row per pair in the order in which the parts know them."""
    rows: dict[PairId, dict[str, Any]] = {}
    for part in parts:
        for pair, numbers in part.items():
            row = rows.setdefault(pair, {"video_id": pair.video_id, "category_id": pair.category_id})
            row.update(numbers)
    return list(rows.values())
