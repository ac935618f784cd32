"""Do two sets of weights find the same? Outputs on one picture and phrase, compared query by query."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sam3.io.checkpoint import ModelCard
from sam3.io.images import open_image
from sam3.model.detector.detector import Sam3Image
from sam3.ops.images import preprocess

BOUNDS = {"fp16": 0.01, "bf16": 0.05, "fp32": 1e-6}  # of the largest difference that a precision may make
COMPARED_QUERIES = 10  # the best; boxes and masks of hopeless queries mean nothing
SAMPLE_SIDE = 256


@dataclass(frozen=True)
class Differences:
    """Largest change per quantity; all of them lie in [0, 1]."""

    scores: float
    boxes: float  # coordinates, as a share of the picture's side
    masks: float  # mean change of mask probability over the picture; 0 without masks

    @property
    def largest(self) -> float:
        return max(self.scores, self.boxes, self.masks)

    def __str__(self) -> str:
        return f"scores differ by {self.scores:.2g}, boxes by {self.boxes:.2g}, masks by {self.masks:.2g}"


@dataclass(frozen=True)
class SampleOutputs:
    """What one set of weights says about the sample."""

    scores: Tensor  # (Q,)
    boxes: Tensor  # (Q, 4) cxcywh
    masks: Tensor | None  # (Q, h, w) probabilities

    def differences(self, other: "SampleOutputs") -> Differences:
        """Largest differences to ``other``: scores of all queries, boxes and masks of our best ones.

        A value that is not finite on either side counts as the largest difference there is, 1.
        """
        best = self.scores.topk(min(COMPARED_QUERIES, len(self.scores))).indices
        masks = 0.0
        if self.masks is not None and other.masks is not None:
            masks = _largest((self.masks[best] - other.masks[best]).abs().mean((1, 2)))
        return Differences(
            scores=_largest((self.scores - other.scores).abs()),
            boxes=_largest((self.boxes[best] - other.boxes[best]).abs()),
            masks=masks,
        )


@dataclass(frozen=True)
class SampleCheck:
    """The sample and the bound."""

    bound: float
    image: str | None = None  # None: a picture made up for the purpose
    phrase: str | None = None  # None: the first phrase of the card

    @torch.inference_mode()
    def outputs(self, model: Sam3Image, card: ModelCard) -> SampleOutputs:
        """Run ``model`` (fp32, CPU) on the sample."""
        picture = open_image(self.image) if self.image is not None else sample_picture()
        pixels = preprocess(picture, model.config.vision.image_size, card.mean, card.std)[None]
        first = torch.zeros(1, dtype=torch.long)
        output = model.ground(
            model.encode_image(pixels),
            model.encode_text([self._phrase(card)]),
            image_index=first,
            phrase_index=first,
        )
        masks = output.one_to_one.masks
        return SampleOutputs(
            output.scores[0], output.one_to_one.boxes[0], None if masks is None else masks[0].sigmoid()
        )

    def _phrase(self, card: ModelCard) -> str:
        return self.phrase or next(iter(card.prompts or card.class_names), "object")


def sample_picture() -> Image.Image:
    """A few plain shapes on a coloured ramp with noise; always the same."""
    across = np.linspace(60, 200, SAMPLE_SIDE)
    ramp = np.stack(np.broadcast_arrays(across[None, :], across[:, None], np.float64(130)), -1)
    noise = np.random.default_rng(0).normal(0, 8, ramp.shape)
    picture = Image.fromarray((ramp + noise).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((30, 40, 110, 120), fill=(210, 40, 40))
    draw.rectangle((150, 130, 225, 205), fill=(40, 70, 210))
    draw.polygon(((170, 30), (230, 100), (140, 105)), fill=(50, 170, 60))
    return picture


def _largest(differences: Tensor) -> float:
    if not differences.isfinite().all():
        return 1.0
    return float(differences.max()) if differences.numel() else 0.0
