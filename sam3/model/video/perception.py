"""What the networks see on the frames of one video; each frame is encoded once for everything that is asked of it."""

from collections import OrderedDict
from dataclasses import dataclass, field

import torch

from sam3.io.frames import FrameSource
from sam3.model.tracker.tracker import TrackerFeatures
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.video_model import Detections
from sam3.ops.boxes import inverse_sigmoid
from sam3.ops.images import preprocess
from sam3.structures import GeometricPrompt, ImageFeatures, TextFeatures

_LOGIT_LIMIT = 10.0
_KEPT_FEATURES = 2  # frames whose features are kept


@dataclass
class Perception:
    """
    Args:
        model: the networks, in evaluation mode.
        source: the frames.
    """

    model: Sam3Video
    source: FrameSource
    _features: OrderedDict[int, ImageFeatures] = field(default_factory=OrderedDict, init=False)

    def tracker_features(self, frame: int) -> TrackerFeatures:
        """What the tracker needs of a frame."""
        return self.model.tracker.features(self._image_features(frame).second_pyramid)

    def detect(self, frame: int, text: TextFeatures, example: GeometricPrompt | None = None) -> Detections:
        """Everything on a frame that one phrase names, or that looks like the example; joint scores in [0, 1]."""
        detector = self.model.detector
        first = torch.zeros(1, dtype=torch.long, device=detector.device)
        found = detector.ground(
            self._image_features(frame), text, image_index=first, phrase_index=first, prompt=example
        ).one_to_one
        scores = inverse_sigmoid(found.scores()[0]).clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT).sigmoid()
        return Detections(scores, found.boxes_xyxy[0].float(), found.masks[0].float())

    def nothing(self) -> Detections:
        """No detection."""
        side = self.model.tracker.config.low_res_size
        scores = torch.zeros(0, device=self.model.detector.device)
        return Detections(scores, scores.reshape(0, 4), scores.reshape(0, side, side))

    def _image_features(self, frame: int) -> ImageFeatures:
        if frame not in self._features:
            detector = self.model.detector
            pixels = preprocess(self.source.frame(frame), detector.config.vision.image_size, (0.5,) * 3, (0.5,) * 3)
            self._features[frame] = detector.encode_image(pixels[None].to(detector.device))
            while len(self._features) > _KEPT_FEATURES:
                self._features.popitem(last=False)
        return self._features[frame]
