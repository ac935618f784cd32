"""Detector and tracker in one network; the names of its weights are those of the released file."""

from torch import nn

from sam3.config import ModelConfig
from sam3.model.detector.detector import Sam3Image
from sam3.model.tracker.tracker import Tracker


class Sam3Video(nn.Module):
    """Holds the two networks; :mod:`sam3.model.sam3_video_predictor` runs them over videos.

    Args:
        config: with the second pyramid.
    """

    def __init__(self, config: ModelConfig, bpe_path=None) -> None:
        super().__init__()
        self.config = config
        self.detector = Sam3Image(config, bpe_path=bpe_path)
        self.tracker = Tracker(config.tracker_config())
