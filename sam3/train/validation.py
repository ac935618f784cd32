"""Validation: predictions for every (image, phrase) -> COCO files -> average precision.

The numbers come from the written files, so anybody can compute them again.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sam3.data.image_dataset import ImageDataset
from sam3.data.loader import Loader
from sam3.eval import prediction_file
from sam3.eval.coco_ap import CocoAp, coco_ap
from sam3.eval.concepts import ConceptResult
from sam3.eval.drift import Drift
from sam3.io.files import read_json
from sam3.model.postprocess import detections
from sam3.structures import Batch, Detections, DetectorOutput, to_device
from sam3.train import distributed
from sam3.train.concepts import ConceptMeter
from sam3.train.drift import DriftProbe
from sam3.train.losses.criterion import Losses
from sam3.train.losses.normalization import Share
from sam3.train.meters import LiveLine, RunningMeans
from sam3.train.prompt_passes import joined, predict_in_passes, share_of_part
from sam3.train.reproducibility import untouched_randomness
from sam3.train.schema import ValidationConfig

_log = logging.getLogger(__name__)

KEY = "val_coco"  # phase and data key in the names of curves


@dataclass(frozen=True)
class ValidationResult:
    """One pass over the validation data."""

    box: CocoAp
    mask: CocoAp | None  # without segmentation
    concepts: ConceptResult | None = None
    drift: Drift | None = None  # from the starting weights, where these are known
    best_metric: str = "ap"  # "cgf1" or "ap"
    losses: dict[str, float] = field(default_factory=dict)
    images: int = 0
    batches: int = 0
    seconds: float = 0.0

    @property
    def metric_name(self) -> str:
        """What "best" means: cgF1 or AP, of masks or, without segmentation, of boxes."""
        iou_type = "bbox" if self.mask is None else "segm"
        return f"cgF1_eval_{iou_type}_cgF1" if self.best_metric == "cgf1" else f"coco_eval_{iou_type}_AP"

    @property
    def metric(self) -> float:
        """Its value; -1 when there is nothing to find."""
        if self.best_metric == "cgf1":
            return self.concepts.to_dict()[self.metric_name]
        return self.ap

    @property
    def ap(self) -> float:
        """Mask AP, or box AP without segmentation."""
        return (self.mask or self.box).ap

    def to_dict(self) -> dict[str, float]:
        """Under the names of the curves (spec/training.md 3.7)."""
        values: dict[str, float] = {}
        for meter, result in (("detection", self.box), ("segmentation", self.mask)):
            if result is not None:
                prefix = f"Meters_val/{KEY}/{meter}"
                values |= {f"{prefix}/{name}": value for name, value in result.to_dict().items()}
                values |= {f"{prefix}/per_class_AP/{name}": entry.ap for name, entry in result.per_class.items()}
        for part in (self.concepts, self.drift):
            if part is not None:
                values |= {f"Meters_val/{KEY}/concepts/{name}": value for name, value in part.to_dict().items()}
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
        return "\n".join([*lines, *self._open_vocabulary_lines()])

    def _open_vocabulary_lines(self) -> Iterator[str]:
        if self.concepts is not None:
            cgf1 = self.concepts.cgf1
            yield f"cgF1 {cgf1.cgf1.mean():.3f}, IL_MCC {cgf1.il_mcc:.3f}"
            kinds = {"absent classes": self.concepts.wrong_classes, "general phrases": self.concepts.wrong_general}
            rates = [f"{name} {rate.rate:.1%} of {rate.asked}" for name, rate in kinds.items() if rate.asked]
            if rates:
                yield f"wrong prompts that fire: {', '.join(rates)}"
        if self.drift is not None:
            yield f"drift from the starting weights {self.drift.value:.3f}"


@dataclass
class Found:
    """What a process finds in its share of the validation images, each with its place in the order of all."""

    records: list[tuple[int, str, list[dict[str, Any]]]] = field(default_factory=list)  # place, kind, COCO records
    losses: list[tuple[int, int, dict[str, float]]] = field(default_factory=list)  # place, images, values of a batch
    images: int = 0


def in_order(everything: Sequence[Found]) -> Found:
    """All that the processes found, as one process would have found it."""
    return Found(
        records=sorted((entry for found in everything for entry in found.records), key=lambda entry: entry[0]),
        losses=sorted((entry for found in everything for entry in found.losses), key=lambda entry: entry[0]),
        images=sum(found.images for found in everything),
    )


@dataclass
class _Pass:
    """What is kept of some prompts of a batch."""

    part: Batch
    losses: Losses | None  # None: not computed
    records: list[tuple[int, str, list[dict[str, Any]]]]  # row of the image, kind, COCO records


class Validator:
    """Runs the model over the validation data.

    Args:
        loader: its dataset is an :class:`~sam3.data.image_dataset.ImageDataset`.
        settings: how predictions are made.
        folder: where the prediction files go.
        criterion: to log losses, too; ``None`` = no losses.
        with_masks: also predict and judge masks.
        live: shows the progress.
        prompts_per_pass: phrases of an image worked on at once; ``None`` = all.
        best_metric: ``"cgf1"`` or ``"ap"``: what the best validation is chosen by. Where cgF1 is undefined, AP is used.
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
        prompts_per_pass: int | None = None,
        best_metric: str = "ap",
    ) -> None:
        self.loader = loader
        self.settings = settings
        self.folder = Path(folder)
        self.criterion = criterion if settings.compute_loss else None
        self.with_masks = with_masks
        self.live = live
        self.prompts_per_pass = prompts_per_pass
        self.ground_truth = ground_truth_of(loader.dataset)
        iou_type = "segm" if with_masks else "bbox"
        self.concepts = ConceptMeter(loader.dataset, self.ground_truth, self.folder, iou_type=iou_type)
        self.drift = self._drift_probe()
        self.best_metric = best_metric
        if best_metric == "cgf1" and not self.concepts.is_defined:
            self.best_metric = "ap"
            _log.warning(
                "cgF1 needs pictures asked both for what they show and for what they do not: the best checkpoint is "
                "chosen by AP instead. Give the validation data negatives (data.probes) or set trainer.best_metric=ap"
            )

    def _drift_probe(self) -> DriftProbe | None:
        if not self.settings.drift_images or not self.settings.drift_phrases:
            return None
        return DriftProbe(
            self.loader.dataset,
            self.folder / "drift_start.json",
            num_images=self.settings.drift_images,
            num_phrases=self.settings.drift_phrases,
            use_presence=self.settings.use_presence,
        )

    def begin(self, model: nn.Module, autocast: AbstractContextManager, *, is_start: bool) -> None:
        """Before training: remember what the starting weights score; see :meth:`DriftProbe.begin`."""
        if self.drift is not None:
            self.drift.begin(model, autocast, is_start=is_start)

    def prediction_path(self, iou_type: str) -> Path:
        """``coco_predictions_bbox.json`` or ``coco_predictions_segm.json``."""
        return self.folder / f"coco_predictions_{iou_type}.json"

    def run(self, model: nn.Module, autocast: AbstractContextManager) -> ValidationResult:
        """Predict, write, measure. The model comes back in the mode it had; random generators are left alone.

        Every process predicts its images; the main one writes and measures what all have found, and tells the others.
        """
        start = time.monotonic()
        was_training = model.training
        model.eval()
        try:
            with untouched_randomness(), torch.no_grad(), autocast:
                found = self._predict(model)
        finally:
            model.train(was_training)
        drift = None if self.drift is None else self.drift.measure(model, autocast)
        self.live.clear()
        everything = distributed.gather_objects(found)
        result = None
        if distributed.is_main():
            result = self._judge(in_order(everything), drift, time.monotonic() - start)
        return distributed.broadcast_object(result)

    def _predict(self, model: nn.Module) -> Found:
        """What this process finds on its images."""
        found = Found()
        for step, batch in enumerate(self._batches(model)):
            passes = predict_in_passes(model, batch, partial(self._use, batch), prompts_per_pass=self.prompts_per_pass)
            self.live.show(f"validation [{step + 1}/{len(self.loader)}]")
            places = self.loader.places(step)
            if not places:
                continue  # a stand-in, so that all processes call the network equally often
            if self.criterion is not None:
                losses = joined(batch, [one.part for one in passes], [one.losses for one in passes])
                values = {"loss": losses.total, **losses.parts}
                found.losses.append((places[0], len(batch), {name: float(value) for name, value in values.items()}))
            for image, iou_type, records in (entry for one in passes for entry in one.records):
                found.records.append((places[image], iou_type, records))
            found.images += len(batch)
        return found

    def _judge(self, found: Found, drift: Drift | None, seconds: float) -> ValidationResult:
        means = RunningMeans()
        for _, images, values in found.losses:
            means.update(values, weight=images)
        records: dict[str, list[dict[str, Any]]] = {"bbox": [], "segm": []} if self.with_masks else {"bbox": []}
        for _, iou_type, some in found.records:
            records[iou_type] += some
        results = {iou_type: self._measure(iou_type, of_type) for iou_type, of_type in records.items()}
        return ValidationResult(
            box=results["bbox"],
            mask=results.get("segm"),
            concepts=self.concepts.measure(records[self.concepts.iou_type]),
            drift=drift,
            best_metric=self.best_metric,
            losses=means.means(),
            images=found.images,
            batches=len(self.loader),
            seconds=seconds,
        )

    def _batches(self, model: nn.Module) -> Iterator[Batch]:
        device = next(model.parameters()).device
        for batch in self.loader.iterate():
            yield to_device(batch, device, non_blocking=True)

    def _use(self, batch: Batch, part: Batch, output: DetectorOutput) -> _Pass:
        """All that is kept of the output for some prompts of ``batch``."""
        losses = None
        if self.criterion is not None:
            losses = self.criterion(output, part.targets, share_of_part(batch, part, Share.whole(batch.targets)))
        return _Pass(part, losses, list(self._records(part, output)))

    def _records(self, batch: Batch, output: DetectorOutput) -> Iterator[tuple[int, str, list[dict[str, Any]]]]:
        """Row of the image and COCO records, prompt by prompt: so the large masks are those of one at a time."""
        for prompt in range(batch.num_prompts):
            found = to_device(self._detections(batch, output, prompt), "cpu")
            origin = {
                "image_id": int(batch.origin.image_ids[prompt]),
                "category_id": int(batch.origin.category_ids[prompt]),
            }
            image = int(batch.image_index[prompt])
            yield image, "bbox", prediction_file.box_records(found, **origin)
            if self.with_masks:
                yield image, "segm", prediction_file.mask_records(found, **origin)

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
        of_classes = [record for record in records if record["category_id"] >= 0]
        kept = prediction_file.keep_best_per_image(of_classes, self.settings.max_detections)
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
