"""Objects that are tracked together through one video: their prompts, and what is remembered of each frame.

A session keeps state, the network (:class:`~sam3.model.tracker.tracker.Tracker`) does not. All objects of a session
share every frame's memory entry. Source: spec/tracker_video.md 4.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sam3.errors import DataError, UserError
from sam3.model.tracker.memory_bank import FrameMemory, Moment, frame_order, frame_score, needed_later, recall
from sam3.model.tracker.prompt_encoder import BOTTOM_RIGHT, TOP_LEFT
from sam3.model.tracker.tracker import NO_OBJECT, TrackedMasks, Tracker, TrackerFeatures, resize_antialiased
from sam3.ops.masks import strongest_per_pixel

_log = logging.getLogger(__name__)

_MASK_LIMIT = 32.0  # of logits that are fed back as a prompt
_SURE = 10.0  # object score of an object that has no answer on a frame, as the reference counts it

FeatureSource = Callable[[int], TrackerFeatures]  # frame -> features


@dataclass(frozen=True)
class Prompt:
    """What a person, or the detector, said of one object on one frame."""

    points: Tensor | None = None  # (1, K, 2) xy in model pixels; a box is two of them
    labels: Tensor | None = None  # (1, K)

    @property
    def is_mask(self) -> bool:
        return self.points is None


@dataclass
class Answer:
    """The tracker's answer to a prompt, before it becomes part of the memory."""

    masks: Tensor  # (1, 1, ., .) logits, at low resolution or at the size of the video
    pointers: Tensor  # (1, C)
    object_score_logits: Tensor  # (1, 1)
    ious: Tensor  # (1,)


@dataclass
class TrackedFrame:
    """What a session says of one frame for its N objects."""

    frame: int
    obj_ids: list[int]
    low_res_masks: Tensor  # (N, 1, 4 h, 4 w) logits
    object_score_logits: Tensor  # (N, 1)


@dataclass
class TrackerSession:
    """
    Args:
        tracker: the network.
        features: gives the features of a frame; called again when they are needed again.
        video_size: (height, width), pixels.
        num_frames: of the video; None = unknown, as of a camera.
        absent_without_answer: an object without any answer on a prompted frame is remembered as absent. The reference
            remembers it as present and empty (``False``).
    """

    tracker: Tracker
    features: FeatureSource
    video_size: tuple[int, int]
    num_frames: int | None = None
    absent_without_answer: bool = True
    obj_ids: list[int] = field(default_factory=list)
    prompts: list[dict[int, Prompt]] = field(default_factory=list)  # of each object, by frame
    pending: list[dict[int, Answer]] = field(default_factory=list)  # of each object, by frame
    conditioning: dict[int, FrameMemory] = field(default_factory=dict)
    tracked: dict[int, FrameMemory] = field(default_factory=dict)
    visited: dict[int, bool] = field(default_factory=dict)  # frame -> whether it was tracked backward

    # --- prompts ---

    def add_points(
        self,
        frame: int,
        obj_id: int,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        box: Tensor | None = None,
        keep_points: bool = False,
        keep_box: bool = False,
    ) -> Answer:
        """Clicks or a box on one object; nothing has changed if that fails.

        Args:
            points: (K, 2) xy, relative to the picture.
            labels: (K,) 1 = on the object, 0 = off it.
            box: (4,) xyxy, relative to the picture.
            keep_points: the clicks of this frame come after those that were made before.
            keep_box: without another box, that of before counts.

        Raises:
            DataError: nothing was given, points without labels, or one place on and off the object.
            UserError: a new object after the session began to track.
        """
        old = self.prompts[self.obj_ids.index(obj_id)].get(frame) if obj_id in self.obj_ids else None
        given = self._with_earlier(self._click_prompt(points, labels, box), old, keep_points, keep_box and box is None)
        given = self._limited(given)
        features = self.features(frame)  # fails before anything changes
        index = self._index_of(obj_id)
        self.prompts[index][frame] = given
        previous = self._latest_masks(index, frame)
        out = self.tracker.segment(
            self.tracker.without_memory(features),
            features,
            points=(given.points, given.labels),
            masks=None if previous is None else previous.clamp(-_MASK_LIMIT, _MASK_LIMIT),
            multimask=self.tracker.multimask_for(given.labels.shape[1], is_first=frame not in self.visited),
        )
        return self._answered(index, frame, out, out.low_res)

    def add_mask(self, frame: int, obj_id: int, mask: Tensor) -> Answer:
        """A whole mask of one object; it takes its pixels from masks given for others.

        Args:
            mask: (H, W) of any size, 1 inside; soft values are kept.
        """
        index = self._index_of(obj_id)
        self.prompts[index][frame] = Prompt()
        side = self.tracker.config.memory_mask_size
        mask = mask.to(self.device).float()[None, None]
        prompt = mask if mask.shape[-2:] == (side, side) else resize_antialiased(mask, side)
        inside = self._resized(mask, self.video_size) > 0.5
        out = self.tracker.use_mask(prompt, self.features(frame))
        for other, answers in enumerate(self.pending):
            if other != index and frame in answers and answers[frame].masks.shape[-2:] == tuple(self.video_size):
                answers[frame].masks = torch.where(inside, NO_OBJECT, answers[frame].masks)
        return self._answered(index, frame, out, torch.where(inside, -NO_OBJECT, NO_OBJECT).float())

    def video_masks(self, frame: int) -> Tensor:
        """(N, 1, H, W) logits of all objects at the size of the video; no object where there is no answer."""
        rows = []
        for index in range(len(self.obj_ids)):
            masks = self._latest_masks(index, frame)
            if masks is None:
                masks = torch.full((1, 1, *self.video_size), NO_OBJECT, device=self.device)
            rows.append(self.to_video_size(masks))
        return torch.cat(rows) if rows else torch.zeros(0, 1, *self.video_size)

    def to_video_size(self, masks: Tensor) -> Tensor:
        """(N, 1, h, w) logits -> (N, 1, H, W)."""
        if masks.shape[-2:] == tuple(self.video_size):
            return masks
        return F.interpolate(masks.float(), tuple(self.video_size), mode="bilinear", align_corners=False)

    # --- tracking ---

    def consolidate(self) -> None:
        """Make the answers to prompts part of the memory, one entry a frame for all objects."""
        for frame in sorted({frame for answers in self.pending for frame in answers}):
            entry = self._consolidated(frame)
            self.remember(frame, entry, is_prompted=True, apart=True)
            self.conditioning[frame] = entry
            self.tracked.pop(frame, None)
        for answers in self.pending:
            answers.clear()

    def step(
        self, frame: int, *, is_reverse: bool = False, remember: bool = True, seen: TrackedMasks | None = None
    ) -> TrackedFrame:
        """Track all objects into one frame; a prompted frame answers what was said of it.

        Args:
            remember: also encode the frame's memory; otherwise :meth:`remember` must follow.
            seen: what :meth:`look` gives of all objects, where that is known.
        """
        entry = self.conditioning.get(frame)
        if entry is None:
            entry = _tracked_entry(self.look(frame, is_reverse) if seen is None else seen)
            if remember:
                self.remember(frame, entry, is_prompted=False)
            self.tracked[frame] = entry
        self.visited[frame] = is_reverse
        return TrackedFrame(frame, list(self.obj_ids), entry.low_res_masks, entry.object_score_logits)

    def look(self, frame: int, is_reverse: bool, rows: list[int] | None = None) -> TrackedMasks:
        """What the network says of the objects on a frame; nothing is kept.

        Args:
            rows: of these objects only.
        """
        features = self.features(frame)
        moment = Moment(frame, self.num_frames, is_reverse)
        remembered = recall(moment, self.conditioning, self.tracked, self.tracker.config)
        count = len(self.obj_ids)
        if rows is not None:
            remembered, count = remembered.of_rows(rows), len(rows)
        embedding = self.tracker.with_memory(features, remembered, count)
        return self.tracker.segment(embedding, features, multimask=self.tracker.multimask_for(0, is_first=False))

    def entry(self, frame: int) -> FrameMemory:
        """What is kept of a frame that was prompted or tracked."""
        return self.conditioning.get(frame) or self.tracked[frame]

    def propagate(
        self, start: int | None = None, *, limit: int | None = None, is_reverse: bool = False
    ) -> Iterator[TrackedFrame]:
        """Track from ``start`` (the first prompted frame) to an end of the video, or ``limit`` frames beyond the start.

        Raises:
            UserError: nothing was prompted.
        """
        if not self.conditioning:
            raise UserError("nothing to track: click on an object, or give a box or a mask, first")
        start = min(self.conditioning) if start is None else start
        for frame in frame_order(start, self.num_frames or start + 1, limit=limit, is_reverse=is_reverse):
            yield self.step(frame, is_reverse=is_reverse)

    def remember(
        self,
        frame: int,
        entry: FrameMemory,
        *,
        is_prompted: bool,
        masks: Tensor | None = None,
        scores: Tensor | None = None,
        apart: bool = False,
    ) -> None:
        """Encode the memory of ``entry``.

        Args:
            masks: (N, 1, ., .) logits to remember instead of the entry's.
            scores: (N, 1) object scores instead of the entry's.
            apart: no pixel belongs to two objects.
        """
        masks = entry.low_res_masks if masks is None else masks
        side = self.tracker.config.image_size
        if masks.shape[-2:] != (side, side) and masks.shape[-1] != self.tracker.config.memory_mask_size:
            masks = F.interpolate(masks.float(), (side, side), mode="bilinear", align_corners=False)
        masks = strongest_per_pixel(masks) if apart else masks
        scores = entry.object_score_logits if scores is None else scores
        entry.memory = self.encoded(frame, masks, scores, is_prompted=is_prompted)

    def encoded(self, frame: int, masks: Tensor, scores: Tensor, *, is_prompted: bool = False) -> Tensor:
        """(B, Cm, h, w) bfloat16: the memory of B masks on a frame, (B, 1, S, S) logits and (B, 1) object scores."""
        return self.tracker.remember(self.features(frame), masks, scores, is_prompted=is_prompted).to(torch.bfloat16)

    def remove(self, obj_id: int) -> None:
        """Forget one object and everything that is remembered of it; unknown ids are none."""
        if obj_id not in self.obj_ids:
            return
        index = self.obj_ids.index(obj_id)
        for values in (self.obj_ids, self.prompts, self.pending):
            del values[index]
        if not self.obj_ids:
            for memory in (self.conditioning, self.tracked, self.visited):
                memory.clear()
            return
        kept = [row for row in range(len(self.obj_ids) + 1) if row != index]
        for memories in (self.conditioning, self.tracked):
            for frame, entry in memories.items():
                memories[frame] = _rows(entry, kept)

    def drop_conditioning(self, frame: int) -> None:
        """The frame counts as tracked from now on, not as prompted."""
        entry = self.conditioning.pop(frame, None)
        if entry is not None:
            self.tracked[frame] = entry
            self.visited.pop(frame, None)

    def forget(self, frame: int, window: int, *, is_reverse: bool = False) -> None:
        """Let go of what no later frame can remember, except the ``window`` frames on both sides of ``frame``."""
        if len(self.tracked) + len(self.conditioning) <= window:
            return
        scores = {number: entry.frame_score for number, entry in self.tracked.items()}
        moment = Moment(frame, self.num_frames, is_reverse)
        needed = needed_later(moment, self.conditioning, scores, self.tracker.config, window=window)
        self.conditioning = {key: self.conditioning[key] for key in self.conditioning if key in needed.conditioning}
        self.tracked = {key: self.tracked[key] for key in self.tracked if key in needed.pointers}
        for number, entry in self.tracked.items():
            if abs(number - frame) > window:
                entry.low_res_masks = None
                entry.memory = entry.memory if number in needed.maps else None
        self.visited = {
            key: self.visited[key] for key in self.visited if key in self.tracked or key in self.conditioning
        }
        for prompts, answers in zip(self.prompts, self.pending, strict=True):
            for number in [key for key in prompts if key not in self.conditioning and key not in answers]:
                del prompts[number]

    # --- parts ---

    @property
    def device(self) -> torch.device:
        return self.tracker.no_obj_ptr.device

    def _index_of(self, obj_id: int) -> int:
        if obj_id not in self.obj_ids:
            if self.visited:
                raise UserError(
                    f"object {obj_id} is new, but this session tracks already; begin another session for new objects"
                )
            self.obj_ids.append(obj_id)
            self.prompts.append({})
            self.pending.append({})
        return self.obj_ids.index(obj_id)

    def _with_earlier(self, new: Prompt, old: Prompt | None, keep_points: bool, keep_box: bool) -> Prompt:
        """What is said now, after the part of what was said before that still counts: a box first, then clicks."""
        if old is not None and not old.is_mask:
            is_box = old.labels[0] >= TOP_LEFT
            kept = (is_box & keep_box) | (~is_box & keep_points)
            new_box = new.labels[0] >= TOP_LEFT
            places = [new.points[:, new_box], old.points[:, kept], new.points[:, ~new_box]]
            names = [new.labels[:, new_box], old.labels[:, kept], new.labels[:, ~new_box]]
            new = Prompt(torch.cat(places, 1), torch.cat(names, 1))
        _require_agreement(new, self.tracker.config.image_size)
        return new

    def _click_prompt(self, points: Tensor | None, labels: Tensor | None, box: Tensor | None) -> Prompt:
        if (points is None) != (labels is None):
            raise DataError("points and labels belong together: give both or neither")
        if points is None and box is None:
            raise DataError("a prompt needs points with labels, or a box")
        parts, names = [], []
        if box is not None:
            parts.append(torch.as_tensor(box, dtype=torch.float32).reshape(2, 2))
            names.append(torch.tensor([TOP_LEFT, BOTTOM_RIGHT]))
        if points is not None:
            parts.append(torch.as_tensor(points, dtype=torch.float32).reshape(-1, 2))
            names.append(torch.as_tensor(labels).reshape(-1).to(torch.long))
        if len(parts[-1]) != len(names[-1]):
            raise DataError(f"{len(parts[-1])} points need as many labels, got {len(names[-1])}")
        place = torch.cat(parts)
        return Prompt(
            (place * self.tracker.config.image_size)[None].to(self.device), torch.cat(names)[None].to(self.device)
        )

    def _limited(self, prompt: Prompt) -> Prompt:
        """Of too many points, the first and the last."""
        limit, count = self.tracker.config.max_points, prompt.points.shape[1]
        if count <= limit:
            return prompt
        half = limit // 2
        _log.warning("%d points are too many; the first %d and the last %d count", count, half, half)
        kept = [*range(half), *range(count - half, count)]
        return Prompt(prompt.points[:, kept], prompt.labels[:, kept])

    def _answered(self, index: int, frame: int, out: TrackedMasks, masks: Tensor) -> Answer:
        answer = Answer(masks, out.pointers, out.object_score_logits, out.ious.amax(1))
        self.pending[index][frame] = answer
        return answer

    def _latest(self, index: int, frame: int) -> Answer | None:
        """What is known of one object on a frame: said last, prompted, or tracked."""
        if frame in self.pending[index]:
            return self.pending[index][frame]
        entry = self.conditioning.get(frame) or self.tracked.get(frame)
        if entry is None or entry.low_res_masks is None or index >= len(entry.pointers):
            return None
        row = slice(index, index + 1)
        return Answer(
            entry.low_res_masks[row], entry.pointers[row], entry.object_score_logits[row], entry.ious[row].reshape(1)
        )

    def _latest_masks(self, index: int, frame: int) -> Tensor | None:
        answer = self._latest(index, frame)
        return None if answer is None else answer.masks

    def _consolidated(self, frame: int) -> FrameMemory:
        side = self.tracker.config.low_res_size
        rows = []
        for index in range(len(self.obj_ids)):
            answer = self._latest(index, frame) or self._no_answer()
            if answer.masks.shape[-1] != side:
                answer = replace(answer, masks=resize_antialiased(answer.masks, side))
            rows.append(answer)
        return FrameMemory(
            memory=None,
            low_res_masks=torch.cat([row.masks for row in rows]),
            pointers=torch.cat([row.pointers for row in rows]),
            object_score_logits=torch.cat([row.object_score_logits for row in rows]),
            ious=torch.cat([row.ious for row in rows])[:, None],
        )

    def _no_answer(self) -> Answer:
        side, pointer = self.tracker.config.low_res_size, self.tracker.no_obj_ptr.detach()
        score = -_SURE if self.absent_without_answer else _SURE
        return Answer(
            masks=torch.full((1, 1, side, side), NO_OBJECT, device=self.device),
            pointers=pointer,
            object_score_logits=pointer.new_full((1, 1), score),
            ious=pointer.new_zeros(1),
        )

    def _resized(self, mask: Tensor, size: Sequence[int]) -> Tensor:
        if tuple(mask.shape[-2:]) == tuple(size):
            return mask
        return F.interpolate(mask, tuple(size), mode="bilinear", align_corners=False, antialias=True)


def _tracked_entry(out: TrackedMasks) -> FrameMemory:
    ious = out.ious.amax(1)
    return FrameMemory(
        memory=None,
        low_res_masks=out.low_res,
        pointers=out.pointers,
        object_score_logits=out.object_score_logits,
        ious=ious,
        frame_score=frame_score(out.object_score_logits, ious),
    )


def _require_agreement(prompt: Prompt, image_size: int) -> None:
    """No place is on and off the object."""
    said: dict[tuple[float, ...], int] = {}
    for place, label in zip(prompt.points[0].tolist(), prompt.labels[0].tolist(), strict=True):
        if label < TOP_LEFT and said.setdefault(tuple(place), label) != label:
            x, y = (value / image_size for value in place)
            raise DataError(f"contradictory clicks: the point ({x:.4g}, {y:.4g}) is labelled 1 and 0; keep one of them")


def _rows(entry: FrameMemory, rows: list[int]) -> FrameMemory:
    """Some objects of an entry; its score is counted anew, object by object."""
    scores, ious = entry.object_score_logits[rows], entry.ious[rows]
    presence = (2 * scores.float().sigmoid() - 1).clamp(min=0).flatten()
    return FrameMemory(
        memory=None if entry.memory is None else entry.memory[rows],
        low_res_masks=None if entry.low_res_masks is None else entry.low_res_masks[rows],
        pointers=entry.pointers[rows],
        object_score_logits=scores,
        ious=ious,
        frame_score=float((presence * ious.float().flatten()).mean()),
    )
