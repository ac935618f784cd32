"""Several things looked for in one video, with a tiny random network whose detections come and go."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sam3.model.sam3_video_predictor import Sam3VideoPredictor, TrackedVideoFrame
from sam3.model.video.settings import VideoSettings
from sam3.model_builder import build_sam3_video_model

BUSY = replace(
    VideoSettings(),
    score_threshold=0.0,
    new_object_score=0.0,
    nms_iou=0.5,
    max_objects=3,
    clean_area=16 * 81,  # 16 pixels of masks of 32 x 32
    hotstart_delay=3,
    hotstart_unmatched=2,
    hotstart_duplicate=3,
)  # objects appear, are removed and are held back within a few frames
PHRASES = ["red circle", "blue square", "a dog"]


def noise(count: int = 6, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.fixture(scope="module")
def predictor() -> Sam3VideoPredictor:
    torch.manual_seed(9)  # a clip and a network between which enough happens
    model = build_sam3_video_model(config="tiny", load_from_HF=False, device="cpu")
    model.tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(3.0)
    return Sam3VideoPredictor(model, BUSY)


def renumbered(frames: list[TrackedVideoFrame], phrase: str) -> list[dict[int, tuple[float, bytes]]]:
    """What was found for one phrase, with ids counted in the order of their first use."""
    numbers: dict[int, int] = {}
    return [
        {
            numbers.setdefault(obj_id, len(numbers)): (float(score), mask.tobytes())
            for obj_id, label, score, mask in zip(frame.ids, frame.labels, frame.scores, frame.masks, strict=True)
            if label == phrase
        }
        for frame in frames
    ]


def test_all_phrases_in_one_pass_equal_phrase_by_phrase(predictor: Sam3VideoPredictor, monkeypatch):
    encoded = []
    encode = type(predictor.model.detector).encode_image
    monkeypatch.setattr(
        type(predictor.model.detector),
        "encode_image",
        lambda self, images: encoded.extend(images) or encode(self, images),
    )
    together = list(predictor.track(noise(), PHRASES))
    assert len(encoded) == 6, "each frame is encoded once for all phrases"
    assert [frame.index for frame in together] == list(range(6))
    seen = [obj_id for frame in together for obj_id in frame.ids]
    assert len(seen) > 6, "the clip is busy enough to tell"
    assert {label for frame in together for label in frame.labels} >= set(PHRASES[:2])
    for phrase in PHRASES:
        alone = list(predictor.track(noise(), phrase))
        assert renumbered(together, phrase) == renumbered(alone, phrase), phrase
    owner: dict[int, str] = {}
    for frame in together:
        assert frame.ids == sorted(set(frame.ids))
        for obj_id, label in zip(frame.ids, frame.labels, strict=True):
            assert owner.setdefault(obj_id, label) == label, "an id belongs to one phrase"
