"""The tracker over the frames of training clips: pointed out on the first, remembered and followed on the others.

The same network calls as when a video is tracked (:mod:`sam3.model.tracker.session`), with three differences that
training needs: memories keep their gradient and precision, whether an object is there is told by the annotation
instead of the head that is still learning it, and objects of all clips go through a frame together.
Source: spec/tracker_video.md 2 to 4. Legend: N clips, T frames, R objects.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam3.data.clips import BOX, CLICK, MASK, ClipBatch
from sam3.model.tracker.memory_bank import FrameMemory, Moment, recall
from sam3.model.tracker.prompt_encoder import BOTTOM_RIGHT, POSITIVE, TOP_LEFT
from sam3.model.tracker.tracker import TrackedMasks, Tracker, TrackerFeatures, resize_antialiased
from sam3.model.video.sam3_video import Sam3Video

_SURE = 10.0  # logit of what the annotation says


@dataclass
class FrameAnswer:
    """What the tracker said of R objects on one frame."""

    tracked: TrackedMasks
    is_present: Tensor  # (R, 1) bool, by the annotation
    is_ambiguous: Tensor  # (R, 1) bool: a click leaves open which of several masks is meant


def roll_out(model: Sam3Video, batch: ClipBatch, *, forget: float = 0.0) -> list[FrameAnswer]:
    """Answers on every frame of the clips.

    Args:
        forget: chance that a tracked frame counts as badly seen, so that memory selection passes over it. When a video
            is tracked, its own scores decide; here objects of many clips share a frame, and none is bad for all.
    """
    tracker = model.tracker
    frames = encode_frames(model, batch)
    config = tracker.config
    is_there = batch.masks.flatten(2).any(2)
    is_click = (batch.prompt_kinds == CLICK)[:, None]
    answers: list[FrameAnswer] = []
    conditioning: dict[int, FrameMemory] = {}
    tracked: dict[int, FrameMemory] = {}
    for frame, features in enumerate(frames):
        present = is_there[:, frame, None]
        if frame == 0:
            answer, entry = point_out(tracker, features, batch, present)
            conditioning[0] = entry
        else:
            moment = Moment(frame, num_frames=max(len(frames), config.max_pointers))
            remembered = recall(moment, conditioning, tracked, config)
            embedding = tracker.with_memory(features, remembered, batch.num_objects)
            answer = tracker.segment(embedding, features, multimask=config.multimask_for_tracking, present=present)
            entry = tracked[frame] = _entry(answer, present)
            entry.frame_score = float(torch.rand(()) >= forget)
        answers.append(FrameAnswer(answer, present, is_click if frame == 0 else torch.zeros_like(is_click)))
        if frame + 1 < len(frames):
            entry.memory = _memory(tracker, features, entry, is_prompted=frame == 0)
    return answers


def encode_frames(model: Sam3Video, batch: ClipBatch) -> list[TrackerFeatures]:
    """Features of every frame, each computed once, with one row for each object."""
    num_clips, num_frames = batch.images.shape[:2]
    pyramid = model.detector.backbone.vision_backbone.encode_second(batch.images.flatten(0, 1))
    every = model.tracker.features(pyramid)
    rows = batch.clip_index * num_frames
    return [
        TrackerFeatures(every.top[rows + frame], (every.skips[0][rows + frame], every.skips[1][rows + frame]))
        for frame in range(num_frames)
    ]


def point_out(
    tracker: Tracker, features: TrackerFeatures, batch: ClipBatch, present: Tensor
) -> tuple[TrackedMasks, FrameMemory]:
    """The first frame: the decoder's own answers to masks, boxes and clicks, and what is remembered of each object.

    A given mask is remembered as it is; what the decoder makes of it is judged all the same, since its token is the
    object's pointer.
    """
    order, answers, masks = [], [], []
    for kind in (MASK, BOX, CLICK):
        rows = (batch.prompt_kinds == kind).nonzero().flatten()
        if len(rows):
            answer, kept = _answer_to(tracker, kind, _rows(features, rows), batch, rows, present[rows])
            order.append(rows)
            answers.append(answer)
            masks.append(kept)
    back = torch.cat(order).argsort()
    answer = _joined(answers, back)
    entry = _entry(answer, present)
    entry.low_res_masks = torch.cat(masks)[back]
    return answer, entry


def _answer_to(
    tracker: Tracker, kind: int, features: TrackerFeatures, batch: ClipBatch, rows: Tensor, present: Tensor
) -> tuple[TrackedMasks, Tensor]:
    """Answer to one kind of prompt, and the (B, 1, 4 h, 4 w) masks to remember."""
    config = tracker.config
    if kind == MASK:
        given = resize_antialiased(batch.masks[rows, :1], config.memory_mask_size)
        answer = tracker.read_mask(given, features, present=present)
        return answer, resize_antialiased(_SURE * (2 * given - 1), config.low_res_size)
    points = batch.points[rows] if kind == BOX else batch.points[rows, :1]
    labels = torch.tensor([[TOP_LEFT, BOTTOM_RIGHT] if kind == BOX else [POSITIVE]], device=points.device)
    answer = tracker.segment(
        tracker.without_memory(features),
        features,
        points=(points, labels.expand(len(rows), -1)),
        multimask=tracker.multimask_for(labels.shape[1], is_first=True),
        present=present,
    )
    return answer, answer.low_res


def _memory(tracker: Tracker, features: TrackerFeatures, entry: FrameMemory, *, is_prompted: bool) -> Tensor:
    side = tracker.config.image_size
    masks = F.interpolate(entry.low_res_masks.detach(), (side, side), mode="bilinear", align_corners=False)
    return tracker.remember(features, masks, entry.object_score_logits, is_prompted=is_prompted)


def _entry(answer: TrackedMasks, present: Tensor) -> FrameMemory:
    sure = torch.where(present, _SURE, -_SURE)
    return FrameMemory(None, answer.low_res, answer.pointers, sure, answer.ious.amax(1))


def _rows(features: TrackerFeatures, rows: Tensor) -> TrackerFeatures:
    return TrackerFeatures(features.top[rows], (features.skips[0][rows], features.skips[1][rows]))


def _joined(answers: list[TrackedMasks], order: Tensor) -> TrackedMasks:
    """Answers of different kinds as one; single masks stand in for the candidates that they do not have."""
    most = max(answer.ious.shape[1] for answer in answers)

    def all_of(name: str) -> Tensor:
        parts = [getattr(answer, name) for answer in answers]
        if name in ("candidates", "ious"):
            parts = [part if part.shape[1] == most else part.expand(-1, most, *part.shape[2:]) for part in parts]
        return torch.cat(parts)[order]

    names = ("candidates", "ious", "low_res", "pointers", "object_score_logits")
    return TrackedMasks(**{name: all_of(name) for name in names})
