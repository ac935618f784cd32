"""One image in, all objects of all phrases out, with one pass of the image through the backbone."""

from collections.abc import Iterator, Sequence

import torch
from PIL import Image

from sam3.model.detector.detector import Sam3Image
from sam3.model.postprocess import detections
from sam3.ops import rle
from sam3.ops.images import preprocess
from sam3.predict.results import FoundObject
from sam3.structures import Detections, DetectorOutput, ImageFeatures, QueryPredictions

PHRASES_PER_PASS = 16  # bounds the memory of the part that runs once per phrase


class ImagePredictor:
    """A model with its phrases, which are encoded once for all images."""

    @torch.inference_mode()
    def __init__(
        self,
        model: Sam3Image,
        prompts: dict[str, str],
        *,
        resolution: int,
        mean: Sequence[float],
        std: Sequence[float],
        score_threshold: float = 0.5,
        max_detections: int = -1,
    ) -> None:
        """
        Args:
            model: in evaluation mode, on its device, in the dtype wanted.
            prompts: label -> phrase.
            resolution: side of the square network input, a multiple of the patch.
            mean: of the normalisation, per channel.
            std: likewise.
            score_threshold: objects scoring higher are kept.
            max_detections: per phrase, best first; -1 keeps all.
        """
        self.model = model
        self.prompts = prompts
        self.resolution = resolution
        self.mean, self.std = mean, std
        self.score_threshold = score_threshold
        self.max_detections = max_detections
        self._dtype = next(model.parameters()).dtype
        phrases = list(prompts.values())
        self._text = [
            model.encode_text(phrases[start : start + PHRASES_PER_PASS])
            for start in range(0, len(phrases), PHRASES_PER_PASS)
        ]

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> list[FoundObject]:
        """Objects in an upright RGB image, phrase by phrase, best first."""
        pixels = preprocess(image, self.resolution, self.mean, self.std)[None]
        features = self.model.encode_image(pixels.to(self.model.device, self._dtype))
        size = (image.height, image.width)
        return [
            found
            for label, detected in zip(self.prompts, self._detect(features, size), strict=True)
            for found in _best_first(label, detected)
        ]

    def _detect(self, features: ImageFeatures, size: tuple[int, int]) -> Iterator[Detections]:
        """Detections of each phrase. Full-size masks exist for one phrase at a time."""
        for text in self._text:
            phrases = torch.arange(len(text), device=self.model.device)
            output = self.model.ground(features, text, image_index=phrases * 0, phrase_index=phrases)
            for row in range(len(text)):
                yield from detections(
                    _of_phrase(output, row),
                    original_sizes=[size],
                    score_threshold=self.score_threshold,
                    max_detections=self.max_detections,
                )


def _of_phrase(output: DetectorOutput, row: int) -> DetectorOutput:
    found = output.one_to_one
    rows = {
        name: None if (values := getattr(found, name)) is None else values[row : row + 1]
        for name in ("logits", "boxes", "boxes_xyxy", "presence_logits", "masks")
    }
    return DetectorOutput(one_to_one=QueryPredictions(**rows))


def _best_first(label: str, detected: Detections) -> list[FoundObject]:
    boxes, scores = detected.boxes.float().tolist(), detected.scores.float().tolist()
    masks = [None] * len(scores) if detected.masks is None else detected.masks.cpu().numpy()
    found = [
        FoundObject(label, score, tuple(box), None if mask is None else rle.encode(mask))
        for box, score, mask in zip(boxes, scores, masks, strict=True)
    ]
    return sorted(found, key=lambda entry: -entry.score)
