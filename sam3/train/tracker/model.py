"""The network that learns to track: a detector that stays as it is, and a tracker on top of its image trunk.

Where a weight file has no tracker (of a detector that was trained from scratch), the tracker begins with random
weights, and its pyramid with the weights of the detector's own: the same architecture on the same trunk, so that it
sees at once what the detector learned to see.
"""

from pathlib import Path

import torch

from sam3.config import ModelConfig
from sam3.io.checkpoint import load_into, read_checkpoint
from sam3.io.feature_store import FeatureMemory
from sam3.model.initialization import initialize_tracker
from sam3.model.layers.layer_list import set_activation_checkpointing
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.vision.trunk_cache import TrunkCache
from sam3.model_builder import DEFAULT_CONFIG, build_sam3_video_model

KEPT_FEATURES = 2**30  # bytes of trunk maps that stay in memory: each frame is encoded once
SECOND_NECK = r"backbone\.vision_backbone\.sam2_convs\..*"


class TrackerInTraining(Sam3Video):
    """The detector does not train: it stays in evaluation mode."""

    def train(self, mode: bool = True) -> "TrackerInTraining":
        super().train(mode)
        self.detector.eval()
        return self


def build_tracker_training_model(
    checkpoint_path: str | Path | None = None,
    *,
    load_from_HF: bool = True,
    device: str | torch.device | None = None,
    eval_mode: bool = False,
    bpe_path: str | Path | None = None,
    enable_segmentation: bool = True,
    resolution: int | None = None,
    compile: bool = False,
    config: str | ModelConfig = DEFAULT_CONFIG,
    activation_checkpointing: bool | str = False,
) -> Sam3Video:
    """Detector and tracker; arguments as of :func:`sam3.model_builder.build_sam3_image_model`.

    Args:
        checkpoint_path: with a tracker (``sam3.pt``, a file of this training) or of a detector alone.
    """
    checkpoint = None if checkpoint_path is None else read_checkpoint(checkpoint_path)
    if config == DEFAULT_CONFIG and checkpoint is not None and checkpoint.card and checkpoint.card.model_config:
        config = ModelConfig.from_dict(checkpoint.card.model_config)
    options = {"device": device, "bpe_path": bpe_path, "resolution": resolution, "config": config}
    if checkpoint is None or checkpoint.tracker_state:
        model = build_sam3_video_model(checkpoint_path, load_from_HF=load_from_HF, **options)
    else:
        model = build_sam3_video_model(load_from_HF=False, **options)
        load_into(model.detector, checkpoint, allow_missing=[SECOND_NECK])
        model.detector.card = checkpoint.card
        initialize_tracker(model.tracker)
        copy_detector_neck(model)
    model.__class__ = TrackerInTraining
    set_activation_checkpointing(model, activation_checkpointing)
    model.detector.backbone.vision_backbone.trunk_cache = TrunkCache(FeatureMemory(KEPT_FEATURES))
    return model.train(not eval_mode)


def copy_detector_neck(model: Sam3Video) -> None:
    """Give the tracker's pyramid the weights of the detector's."""
    vision = model.detector.backbone.vision_backbone
    vision.sam2_convs.load_state_dict(vision.convs.state_dict())
