"""What crosses package borders: prompts, batches, targets, model outputs, detections.

Letters in shapes: B images, P prompts (image-phrase pairs), T phrases, Q object queries, N objects,
S prompt tokens, C channels, H and W height and width. Everything is batch first. Masks named
``*_mask`` of tokens or prompts are boolean with **True = padding**; object masks are True inside.
Boxes are ``(cx, cy, w, h)`` in [0, 1] of the (padded) input image unless the name says ``xyxy``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam3.ops import rle

_T = TypeVar("_T")

VISUAL_PHRASE = "visual"  # the text that accompanies example boxes when nothing is said


def map_tensors(value: _T, change: Callable[[Tensor], Tensor]) -> _T:
    """Copy of a dataclass of this module with ``change`` made to every tensor, also inside dataclasses and lists."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list):
        return [map_tensors(item, change) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: map_tensors(getattr(value, f.name), change) for f in fields(value)})
    return value


def to_device(value: _T, device: torch.device | str, *, non_blocking: bool = False) -> _T:
    """Copy of a dataclass of this module with every tensor on ``device``."""
    return map_tensors(value, lambda tensor: tensor.to(device, non_blocking=non_blocking))


@dataclass
class GeometricPrompt:
    """Boxes and points given as examples, one row per prompt, right-padded.

    Labels: 1 = positive, 0 = negative. A prompt without any geometry has ``boxes`` of shape
    (P, 0, 4); its encoding still holds the class token.
    """

    boxes: Tensor  # (P, Nb, 4) cxcywh in [0, 1]
    box_labels: Tensor  # (P, Nb) long
    box_mask: Tensor  # (P, Nb) bool, True = padding
    points: Tensor  # (P, Np, 2) xy in [0, 1]
    point_labels: Tensor  # (P, Np) long
    point_mask: Tensor  # (P, Np) bool, True = padding

    def __post_init__(self) -> None:
        for name, items, width in (("boxes", self.boxes, 4), ("points", self.points, 2)):
            kind = "box" if name == "boxes" else "point"
            labels, mask = getattr(self, f"{kind}_labels"), getattr(self, f"{kind}_mask")
            if items.dim() != 3 or items.shape[-1] != width:
                raise ValueError(f"{name} must have shape (P, N, {width}), got {tuple(items.shape)}")
            if labels.shape != items.shape[:2] or mask.shape != items.shape[:2]:
                raise ValueError(
                    f"{kind}_labels {tuple(labels.shape)} and {kind}_mask {tuple(mask.shape)} must both have shape "
                    f"{tuple(items.shape[:2])}, that of the {name}"
                )
        if len(self.boxes) != len(self.points):
            raise ValueError(f"boxes are for {len(self.boxes)} prompts, points for {len(self.points)}")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def empty(cls, num_prompts: int, device: torch.device | str | None = None) -> "GeometricPrompt":
        """No geometry for ``num_prompts`` prompts."""
        return cls(
            boxes=torch.zeros(num_prompts, 0, 4, device=device),
            box_labels=torch.zeros(num_prompts, 0, dtype=torch.long, device=device),
            box_mask=torch.zeros(num_prompts, 0, dtype=torch.bool, device=device),
            points=torch.zeros(num_prompts, 0, 2, device=device),
            point_labels=torch.zeros(num_prompts, 0, dtype=torch.long, device=device),
            point_mask=torch.zeros(num_prompts, 0, dtype=torch.bool, device=device),
        )

    def append_box(self, box: Tensor, label: bool | int) -> "GeometricPrompt":
        """A new prompt with ``box`` (4,) added to every row; rows must be unpadded."""
        if self.box_mask.any():
            raise ValueError("append_box needs unpadded rows; build a padded prompt at once instead")
        rows = len(self)
        box = box.to(self.boxes).reshape(1, 1, 4).expand(rows, 1, 4)
        return replace(
            self,
            boxes=torch.cat([self.boxes, box], 1),
            box_labels=torch.cat([self.box_labels, self.box_labels.new_full((rows, 1), int(label))], 1),
            box_mask=torch.cat([self.box_mask, self.box_mask.new_zeros(rows, 1)], 1),
        )


@dataclass
class ImageFeatures:
    """What the vision backbone says about B images; computed once, prompted many times."""

    pyramid: list[Tensor]  # fine to coarse, (B, C, H_i, W_i); the last level feeds the transformer
    positions: list[Tensor]  # sine encodings, same shapes with a leading 1 or B
    second_pyramid: list[Tensor] | None = None  # of the tracker's neck
    second_positions: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.pyramid[-1])


@dataclass
class TextFeatures:
    """Encoded phrases."""

    features: Tensor  # (T, S, C) after the resizer
    mask: Tensor  # (T, S) bool, True = padding (token id 0)
    embeddings: Tensor  # (T, S, width) raw token embeddings

    def __len__(self) -> int:
        return len(self.features)


@dataclass
class QueryPredictions:
    """What one decoder layer says about one set of queries."""

    logits: Tensor  # (P, Q, 1)
    boxes: Tensor  # (P, Q, 4) cxcywh
    boxes_xyxy: Tensor  # (P, Q, 4)
    presence_logits: Tensor | None = None  # (P, 1); None for one-to-many queries
    masks: Tensor | None = None  # (P, Q, h, w) logits; only on the last layer

    def scores(self, *, use_presence: bool = True) -> Tensor:
        """(P, Q) float32 in [0, 1]: class probability, times presence probability where there is one."""
        scores = self.logits.squeeze(-1).float().sigmoid()
        if use_presence and self.presence_logits is not None:
            scores = scores * self.presence_logits.float().sigmoid()
        return scores

    def select(self, prompts: slice, queries: slice = slice(None)) -> "QueryPredictions":
        """Views of some queries of some prompts."""
        return QueryPredictions(
            logits=self.logits[prompts, queries],
            boxes=self.boxes[prompts, queries],
            boxes_xyxy=self.boxes_xyxy[prompts, queries],
            presence_logits=None if self.presence_logits is None else self.presence_logits[prompts],
            masks=None if self.masks is None else self.masks[prompts, queries],
        )

    def to_dict(self, suffix: str = "") -> dict[str, Tensor]:
        """The names of ``spec/detector.md`` 12.2."""
        named = {"pred_logits": self.logits, "pred_boxes": self.boxes, "pred_boxes_xyxy": self.boxes_xyxy}
        if self.masks is not None:
            named["pred_masks"] = self.masks
        named = {name + suffix: tensor for name, tensor in named.items()}
        if self.presence_logits is not None:
            named["presence_logit_dec"] = self.presence_logits
        return named


@dataclass
class DetectorOutput:
    """Output of the detector for P prompts.

    ``one_to_many`` and the two ``aux`` lists (decoder layers 0..L-2) exist in training mode only.
    """

    one_to_one: QueryPredictions
    one_to_many: QueryPredictions | None = None
    aux_one_to_one: list[QueryPredictions] = field(default_factory=list)
    aux_one_to_many: list[QueryPredictions] = field(default_factory=list)
    semantic_logits: Tensor | None = None  # (P, 1, h, w)
    queries: Tensor | None = None  # (P, Q, C) last layer, normed
    memory: Tensor | None = None  # (P, H*W, C) output of the fusion encoder
    presence_features: Tensor | None = None  # (P, 1, C) presence token before its norm

    @property
    def scores(self) -> Tensor:
        """(P, Q) float32, final confidence in [0, 1]; see :meth:`QueryPredictions.scores`."""
        return self.one_to_one.scores()

    def to_dict(self) -> dict[str, Any]:
        """The names of ``spec/detector.md`` 12.2 (batch first; without the bulky ``prev_encoder_out``)."""
        out: dict[str, Any] = self.one_to_one.to_dict()
        out.update(queries=self.queries, semantic_seg=self.semantic_logits, presence_logit=None)
        out.update(encoder_hidden_states=self.memory, presence_feats=self.presence_features)
        if self.one_to_many is not None:
            out.update(self.one_to_many.to_dict("_o2m"))
        if self.aux_one_to_one:
            many = self.aux_one_to_many or [None] * len(self.aux_one_to_one)
            out["aux_outputs"] = [
                one.to_dict() | (two.to_dict("_o2m") if two is not None else {})
                for one, two in zip(self.aux_one_to_one, many, strict=True)
            ]
        return out


@dataclass
class Targets:
    """What should have been found, packed over P prompts (prompt 0's objects first).

    A prompt without objects is a negative: the phrase is absent from its image.
    """

    num_boxes: Tensor  # (P,) long
    boxes: Tensor  # (N, 4) cxcywh in [0, 1]
    boxes_padded: Tensor  # (P, max num_boxes, 4), padding 0
    object_ids: Tensor  # (N,) long
    object_ids_padded: Tensor  # (P, max num_boxes) long, padding -1
    is_exhaustive: Tensor  # (P,) bool: every instance of the phrase is annotated
    masks: Tensor | None = None  # (N, H, W) bool
    mask_is_valid: Tensor | None = None  # (N,) bool; False = the object has no mask, its row is zero
    semantic_masks: Tensor | None = None  # (P, H, W) bool

    def __len__(self) -> int:
        return len(self.num_boxes)


@dataclass
class BatchOrigin:
    """Where the prompts of a batch come from, for metrics and for error messages."""

    image_ids: Tensor  # (P,) long, COCO image id
    category_ids: Tensor  # (P,) long, COCO category id
    original_sizes: Tensor  # (P, 2) long, (height, width) of the image file
    file_names: list[str] = field(default_factory=list)  # one per image of the batch


@dataclass
class Batch:
    """Collated training or validation data: B images, P prompts."""

    images: Tensor  # (B, 3, H, W) normalised
    phrases: list[str]  # unique, in order of first use
    image_index: Tensor  # (P,) long, row of ``images``
    phrase_index: Tensor  # (P,) long, entry of ``phrases``
    prompt: GeometricPrompt
    targets: Targets
    origin: BatchOrigin

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def num_prompts(self) -> int:
        return len(self.image_index)

    @property
    def num_objects(self) -> int:
        return len(self.targets.boxes)


@dataclass
class Detections:
    """Objects found in one image, in pixels of the original image."""

    boxes: Tensor  # (N, 4) xyxy, pixels, not clipped
    scores: Tensor  # (N,) in [0, 1]
    masks: Tensor | None = None  # (N, H, W) bool
    mask_probs: Tensor | None = None  # (N, H, W) in [0, 1]; only on request, it is large

    def __post_init__(self) -> None:
        lengths = {
            name: len(value)
            for name in ("boxes", "scores", "masks", "mask_probs")
            if (value := getattr(self, name)) is not None
        }
        if len(set(lengths.values())) > 1:
            raise ValueError(f"detections differ in length: {lengths}")

    def __len__(self) -> int:
        return len(self.scores)


@dataclass
class ImageObjects:
    """N objects of one picture, from all its prompts."""

    scores: Tensor  # (N,)
    labels: Tensor  # (N,) long
    boxes: Tensor  # (N, 4) xyxy, pixels or shares of the picture
    masks: Tensor | list[rle.Rle] | None = None  # (N, H, W) bool, or N compressed ones

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: Tensor) -> "ImageObjects":
        """Some of the objects, in that order."""
        masks = self.masks
        if isinstance(masks, list):
            masks = [masks[row] for row in rows.tolist()]
        elif masks is not None:
            masks = masks[rows]
        return ImageObjects(self.scores[rows], self.labels[rows], self.boxes[rows], masks)


@dataclass(frozen=True)
class FoundObject:
    """One object. Pixels are those of the image as it is shown (EXIF orientation applied)."""

    label: str  # class name, or the phrase itself
    score: float  # in [0, 1]
    box: tuple[float, float, float, float]  # xyxy, pixels, not clipped to the image
    segmentation: rle.Rle | None  # None: the model has no segmentation head

    def mask(self) -> NDArray[np.bool_] | None:
        """(H, W), True inside."""
        return None if self.segmentation is None else rle.decode(self.segmentation)

    def cutout(self) -> tuple[NDArray[np.bool_], tuple[int, int]] | None:
        """The mask cut to its extent and the upper left corner (x, y) of it; None without a mask or an empty one.

        What draws an object costs as much as the object is large, not the image.
        """
        if self.segmentation is None:
            return None
        x, y, width, height = (int(value) for value in rle.to_box_xywh(self.segmentation))
        if not width:
            return None
        return np.ascontiguousarray(rle.decode_columns(self.segmentation, x, x + width)[y : y + height]), (x, y)
