"""One image in, all objects of all phrases out, with one pass of the image through the backbone."""

from collections.abc import Sequence

import torch
from PIL import Image

from sam3.model.detector.detector import Sam3Image
from sam3.model.postprocess import detections
from sam3.model.sam3_image_processor import PROMPTS_PER_PASS
from sam3.ops import rle
from sam3.ops.images import preprocess
from sam3.structures import Detections, DetectorOutput, FoundObject, QueryPredictions

MASK_BYTES = 256 * 2**20  # bound on the full-size masks held at once; of one mask at least


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
        phrases = list(prompts.values())
        self._text = [
            model.encode_text(phrases[start : start + PROMPTS_PER_PASS])
            for start in range(0, len(phrases), PROMPTS_PER_PASS)
        ]

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> list[FoundObject]:
        """Objects in an upright RGB image, phrase by phrase, best first."""
        pixels = preprocess(image, self.resolution, self.mean, self.std)[None]
        features = self.model.encode_image(pixels.to(self.model.device))
        labels = iter(self.prompts)
        found = []
        for text in self._text:
            phrases = torch.arange(len(text), device=self.model.device)
            output = self.model.ground(features, text, image_index=phrases * 0, phrase_index=phrases)
            for row in range(len(text)):
                found += self._objects(output.one_to_one, row, next(labels), (image.height, image.width))
        return found

    def _objects(self, predictions: QueryPredictions, row: int, label: str, size: tuple[int, int]) -> list[FoundObject]:
        """Objects of one phrase, best first. Full-size masks exist for a few queries at a time."""
        height, width = size
        step = max(1, MASK_BYTES // (height * width))
        found = []
        for start in range(0, predictions.logits.shape[1], step):
            some = predictions.select(slice(row, row + 1), slice(start, start + step))
            (detected,) = detections(
                DetectorOutput(one_to_one=some),
                original_sizes=[size],
                score_threshold=self.score_threshold,
                max_detections=self.max_detections,
            )
            found += _found_objects(label, detected)
        found.sort(key=lambda entry: -entry.score)
        return found if self.max_detections < 0 else found[: self.max_detections]


def _found_objects(label: str, detected: Detections) -> list[FoundObject]:
    boxes, scores = detected.boxes.float().tolist(), detected.scores.float().tolist()
    masks = [None] * len(scores) if detected.masks is None else detected.masks.cpu().numpy()
    return [
        FoundObject(label, score, tuple(box), None if mask is None else rle.encode(mask))
        for box, score, mask in zip(boxes, scores, masks, strict=True)
    ]
