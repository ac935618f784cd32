"""Validation: predictions for every (image, phrase) -> COCO files -> average precision.

The numbers come from the written files, so anybody can compute them again.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sam3.data.image_dataset import ImageDataset
from sam3.data.loader import Loader
from sam3.eval import prediction_file
from sam3.eval.coco_ap import CocoAp, coco_ap
from sam3.io.files import read_json
from sam3.model.postprocess import detections
from sam3.structures import Batch, Detections, DetectorOutput, to_device
from sam3.train.meters import LiveLine, RunningMeans
from sam3.train.reproducibility import untouched_randomness
from sam3.train.schema import ValidationConfig

_log = logging.getLogger(__name__)

KEY = "val_coco"  # phase and data key in the names of curves


@dataclass(frozen=True)
class ValidationResult:
    """One pass over the validation data."""

    box: CocoAp
    mask: CocoAp | None  # without segmentation
    losses: dict[str, float] = field(default_factory=dict)
    images: int = 0
    batches: int = 0
    seconds: float = 0.0

    @property
    def metric_name(self) -> str:
        """What "best" means: mask AP, or box AP without segmentation."""
        return "coco_eval_bbox_AP" if self.mask is None else "coco_eval_segm_AP"

    @property
    def metric(self) -> float:
        """Its value; -1 when the ground truth is empty."""
        return (self.mask or self.box).ap

    def to_dict(self) -> dict[str, float]:
        """Under the names of the curves (spec/training.md 3.7)."""
        values: dict[str, float] = {}
        for meter, result in (("detection", self.box), ("segmentation", self.mask)):
            if result is not None:
                prefix = f"Meters_val/{KEY}/{meter}"
                values |= {f"{prefix}/{name}": value for name, value in result.to_dict().items()}
                values |= {f"{prefix}/per_class_AP/{name}": entry.ap for name, entry in result.per_class.items()}
        return values | {f"Losses/{KEY}_{name}": value for name, value in self.losses.items()}

    def summary(self) -> str:
        """A few lines for the text log."""
        kinds = [("mask", self.mask), ("box", self.box)]
        lines = [f"{kind} AP {r.ap:.3f}, AP50 {r.ap_50:.3f}, AP75 {r.ap_75:.3f}" for kind, r in kinds if r is not None]
        judged = self.mask or self.box
        if len(judged.per_class) > 1:
            lines += [
                f"  {name}: AP {entry.ap:.3f}, AP50 {entry.ap_50:.3f}" for name, entry in judged.per_class.items()
            ]
        return "\n".join(lines)


class Validator:
    """Runs the model over the validation data.

    Args:
        loader: its dataset has ``ann_file`` and ``records``.
        settings: how predictions are made.
        folder: where the prediction files go.
        criterion: to log losses, too; ``None`` = no losses.
        with_masks: also predict and judge masks.
        live: shows the progress.
    """

    def __init__(
        self,
        loader: Loader,
        settings: ValidationConfig,
        folder: str | Path,
        *,
        criterion: nn.Module | None,
        with_masks: bool,
        live: LiveLine,
    ) -> None:
        self.loader = loader
        self.settings = settings
        self.folder = Path(folder)
        self.criterion = criterion if settings.compute_loss else None
        self.with_masks = with_masks
        self.live = live
        self.ground_truth = ground_truth_of(loader.dataset)

    def prediction_path(self, iou_type: str) -> Path:
        """``coco_predictions_bbox.json`` or ``coco_predictions_segm.json``."""
        return self.folder / f"coco_predictions_{iou_type}.json"

    def run(self, model: nn.Module, autocast: AbstractContextManager) -> ValidationResult:
        """Predict, write, measure. The model comes back in the mode it had; random generators are left alone."""
        start = time.monotonic()
        was_training, means = model.training, RunningMeans()
        records: dict[str, list[dict[str, Any]]] = {"bbox": [], "segm": []} if self.with_masks else {"bbox": []}
        images = 0
        model.eval()
        try:
            with untouched_randomness(), torch.no_grad(), autocast:
                for number, (batch, output) in enumerate(self._outputs(model), start=1):
                    images += len(batch)
                    if self.criterion is not None:
                        losses = self.criterion(output, batch.targets)
                        means.update({"loss": losses.total, **losses.parts}, weight=len(batch))
                    for iou_type, found in self._records(batch, output):
                        records[iou_type] += found
                    self.live.show(f"validation [{number}/{len(self.loader)}]")
        finally:
            model.train(was_training)
        self.live.clear()
        results = {iou_type: self._measure(iou_type, found) for iou_type, found in records.items()}
        return ValidationResult(
            box=results["bbox"],
            mask=results.get("segm"),
            losses=means.means(),
            images=images,
            batches=len(self.loader),
            seconds=time.monotonic() - start,
        )

    def _outputs(self, model: nn.Module) -> Iterator[tuple[Batch, DetectorOutput]]:
        device = next(model.parameters()).device
        for batch in self.loader.iterate():
            batch = to_device(batch, device, non_blocking=True)
            yield batch, model(batch)

    def _records(self, batch: Batch, output: DetectorOutput) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """COCO records of every prompt of the batch; the large masks of one prompt at a time."""
        for prompt in range(batch.num_prompts):
            found = to_device(self._detections(batch, output, prompt), "cpu")
            origin = {
                "image_id": int(batch.origin.image_ids[prompt]),
                "category_id": int(batch.origin.category_ids[prompt]),
            }
            yield "bbox", prediction_file.box_records(found, **origin)
            if self.with_masks:
                yield "segm", prediction_file.mask_records(found, **origin)

    def _detections(self, batch: Batch, output: DetectorOutput, prompt: int) -> Detections:
        """The best of one prompt, at the size of the image file."""
        height, width = batch.origin.original_sizes[prompt].tolist()
        return detections(
            DetectorOutput(output.one_to_one.select(slice(prompt, prompt + 1))),
            original_sizes=[(height, width)],
            score_threshold=-1.0,
            max_detections=self.settings.max_detections,
            with_masks=self.with_masks,
            use_presence=self.settings.use_presence,
        )[0]

    def _measure(self, iou_type: str, records: list[dict[str, Any]]) -> CocoAp:
        kept = prediction_file.keep_best_per_image(records, self.settings.max_detections)
        prediction_file.write_predictions(self.prediction_path(iou_type), kept)
        return coco_ap(self.ground_truth, kept, iou_type)


def ground_truth_of(dataset: ImageDataset) -> dict[str, Any]:
    """The annotation file, reduced to the images that the dataset asks for."""
    content = read_json(dataset.ann_file)
    used = {record.image_id for record in dataset.records}
    return {
        "images": [image for image in content["images"] if image["id"] in used],
        "annotations": [entry for entry in content["annotations"] if entry["image_id"] in used],
        "categories": content["categories"],
    }
