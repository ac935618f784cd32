"""Text in, masklets out: one frame is detect -> propagate -> associate -> update -> emit (spec/tracker_video.md 6).

The detector and the features of a frame are given as functions, so that the step can be tested without a network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from sam3.model.tracker.session import FeatureSource, TrackerSession
from sam3.model.tracker.tracker import Tracker
from sam3.model.video.association import Association, associate, away_from_border, within_limit
from sam3.model.video.frame_output import FrameObjects, assemble
from sam3.model.video.lifecycle import HotStart
from sam3.model.video.limits import MemoryLimits
from sam3.model.video.occlusion import NEVER, overlapping_to_blank
from sam3.model.video.partners import ALONE, Partners
from sam3.model.video.results import FrameResult
from sam3.model.video.settings import VideoSettings
from sam3.model.video.shared_tracking import remember_all, step_all
from sam3.model.video.video_state import VideoState
from sam3.ops.components import clean_masks
from sam3.ops.masks import blank_if_mostly_lost, mask_iou
from sam3.ops.nms import greedy_nms

_CLEAN_SIDE = 288  # of the masks whose pixels ``clean_area`` counts: those of the released network
_BLANK = -10.0  # logit of a track that gives way
EMPTY_FRAMES = 16  # without a pixel, before an object may lose its place to a new one
_CONFIRMED_LATER = 2  # frames after which it is decided whether an object is confirmed
_REMEMBERED = 10.0  # object score of what is remembered: there or not


@dataclass
class Detections:
    """What the detector says of one frame: D objects."""

    scores: Tensor  # (D,) in [0, 1]
    boxes_xyxy: Tensor  # (D, 4) relative
    masks: Tensor  # (D, h, w) logits

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, kept: Tensor) -> "Detections":
        return Detections(self.scores[kept], self.boxes_xyxy[kept], self.masks[kept])

    def to(self, device: torch.device) -> "Detections":
        return Detections(self.scores.to(device), self.boxes_xyxy.to(device), self.masks.to(device))

    def cpu(self) -> "Detections":
        return self.to(torch.device("cpu"))


@dataclass
class Tracks:
    """What the tracker says of one frame: N objects."""

    obj_ids: list[int]
    masks: Tensor  # (N, h, w) logits without small holes and specks
    logits: Tensor  # (N,) object scores


@dataclass
class FramePlan:
    """What was decided on one frame."""

    frame: int
    association: Association
    new_ids: list[int] = field(default_factory=list)
    removed: set[int] = field(default_factory=set)
    hidden: set[int] = field(default_factory=set)
    blanked: list[int] = field(default_factory=list)
    evicted: list[int] = field(default_factory=list)  # objects without a pixel that gave their place to new ones
    num_dropped: int = 0  # objects that are not tracked, or no longer, because there is no room


Detector = Callable[[int], Detections]
HasFrame = Callable[[int], bool]


class VideoModel:
    """
    Args:
        tracker: its network.
        settings: every threshold.
        limits: what is kept; left out, everything is.
        partners: processes that do the same and share the objects.
    """

    def __init__(
        self,
        tracker: Tracker,
        settings: VideoSettings,
        limits: MemoryLimits | None = None,
        partners: Partners = ALONE,
    ) -> None:
        self.partners = partners
        self.tracker = tracker
        self.settings = settings
        self.limits = limits or MemoryLimits()

    @property
    def max_objects(self) -> int:
        """That are tracked at a time: what the settings say, or what there is memory for."""
        return min(self.settings.max_objects, self.limits.max_objects or self.settings.max_objects)

    @property
    def clean_area(self) -> int:
        """Pixels of the largest hole or speck that is removed, on masks of this network's size."""
        if self.settings.as_reference:
            return self.settings.clean_area
        return round(self.settings.clean_area * (self.tracker.config.low_res_size / _CLEAN_SIDE) ** 2)

    # --- a video ---

    def begin_pass(self, state: VideoState) -> None:
        """What was counted about young objects in another pass over the video counts no longer."""
        if not self.settings.as_reference:
            state.hot_start = HotStart(first_frame=state.hot_start.first_frame, removed=state.hot_start.removed)
            state.hot_start.keep_alive = dict.fromkeys(state.obj_ids, self.settings.keep_alive_initial)

    def shown(self, state: VideoState, frame: int, *, with_hidden: bool = False) -> FrameObjects:
        """The objects of a frame that was worked off."""
        result = state.results.at(frame)
        objects = assemble(
            state.results.masks(frame),
            state.birth_scores,
            result.tracker_scores,
            size=state.video_size,
            hidden=() if with_hidden else state.hidden_on(frame),
            inclusive_boxes=self.settings.as_reference,
            drop_emptied=not self.settings.as_reference,
        )
        objects.num_dropped = result.num_dropped
        return objects

    def new_session(self, state: VideoState, features: FeatureSource) -> TrackerSession:
        """A session for further objects of the video; it is not part of the state yet."""
        return TrackerSession(
            self.tracker,
            features,
            state.video_size,
            state.num_frames,
            absent_without_answer=not self.settings.as_reference,
        )

    # --- one frame ---

    def step(
        self, state: VideoState, frame: int, detect: Detector, features: FeatureSource, *, is_reverse: bool = False
    ) -> FramePlan:
        """Detect, propagate, associate, update, emit."""
        found = self.keep_best(detect(frame))
        tracks = self.propagate_into(state, frame, is_reverse)
        plan = self.plan(state, frame, found, tracks, is_reverse)
        self.recondition(state, frame, found, tracks, plan)
        self.blank_occluded(state, frame, tracks, plan, is_reverse)
        self.remember(state, frame, tracks)
        scores = dict(zip(tracks.obj_ids, tracks.logits.sigmoid().tolist(), strict=True))
        masks = self._video_masks(tracks.obj_ids, tracks.masks, state.video_size)
        masks |= self._begin(state, frame, found, plan, features)
        state.drop([*plan.removed, *plan.evicted])
        scores |= {obj_id: state.birth_scores[obj_id] for obj_id in plan.new_ids}
        state.results.put(frame, masks, FrameResult({}, scores, plan.hidden, plan.num_dropped))
        self.confirm(state, plan, is_reverse)
        self.forget(state, frame, is_reverse)
        return plan

    def confirm(self, state: VideoState, plan: FramePlan, is_reverse: bool) -> None:
        """Objects that were not detected often enough in a row do not show here, nor on the two frames before."""
        if not self.settings.confirmation:
            return
        seen = {"new": plan.new_ids, "matched": plan.association.matched}
        state.confirmation.update(state.obj_ids, **seen, needed=self.settings.confirmation)
        unconfirmed = set(state.obj_ids) - state.confirmation.confirmed
        for back in range(_CONFIRMED_LATER + 1):
            if (result := state.results.frames.get(plan.frame + (back if is_reverse else -back))) is not None:
                result.unconfirmed = set(unconfirmed)

    def forget(self, state: VideoState, frame: int, is_reverse: bool) -> None:
        """Let go of what no later frame can ask for, or there is no room for."""
        window = self.limits.tracker_window(len(state.obj_ids), self.tracker.config)
        if window is not None:
            for session in state.sessions:
                session.forget(frame, window, is_reverse=is_reverse)
        waiting = state.under_way.waiting if state.under_way is not None else ()
        state.results.trim(self.limits.result_bytes, waiting={*waiting, frame})
        state.forget_the_gone(self.settings)

    def keep_best(self, detections: Detections) -> Detections:
        """Confident detections without duplicates, in the detector's order."""
        kept = detections.select(detections.scores > self.settings.score_threshold)
        if self.settings.nms_iou <= 0 or not len(kept):
            return kept
        inside = kept.masks > 0
        return kept.select(greedy_nms(mask_iou(inside, inside), kept.scores, self.settings.nms_iou))

    def propagate_into(self, state: VideoState, frame: int, is_reverse: bool) -> Tracks:
        """Every session one frame further; memories follow when it is known what to remember."""
        outs = step_all(state.sessions, frame, is_reverse=is_reverse, partners=self.partners)
        side = self.tracker.config.low_res_size
        device = self.tracker.no_obj_ptr.device
        masks = [out.low_res_masks[:, 0] for out in outs] or [torch.zeros(0, side, side, device=device)]
        logits = [out.object_score_logits[:, 0] for out in outs] or [torch.zeros(0, device=device)]
        obj_ids = [obj_id for out in outs for obj_id in out.obj_ids]
        return Tracks(obj_ids, clean_masks(torch.cat(masks), self.clean_area), torch.cat(logits).float())

    def plan(self, state: VideoState, frame: int, found: Detections, tracks: Tracks, is_reverse: bool) -> FramePlan:
        """Which detections are new objects, and which young objects were mistakes."""
        settings = self.settings
        association = associate(found.masks, found.scores, tracks.masks, tracks.obj_ids, settings)
        new = association.new_detections
        if settings.border is not None and new:
            inside = away_from_border(found.boxes_xyxy[new], settings.border).tolist()
            new = [index for index, yes in zip(new, inside, strict=True) if yes]
        evicted = self._make_room(state, frame, len(tracks.obj_ids) + len(new), association.empty)
        kept = within_limit(new, found.scores, self.max_objects - (len(tracks.obj_ids) - len(evicted)))
        dropped = len(new) - len(kept) + len(evicted)
        association.new_detections[:] = kept
        plan = FramePlan(frame, association, state.ids.take(len(kept)), evicted=evicted, num_dropped=dropped)
        for obj_id, index in zip(plan.new_ids, kept, strict=True):
            state.birth_scores[obj_id] = float(found.scores[index])
        if settings.hotstart_delay:
            plan.removed, plan.hidden = state.hot_start.update(
                frame,
                new=plan.new_ids,
                matches=association.matches,
                unmatched=association.unmatched,
                empty=association.empty,
                settings=settings,
                is_reverse=is_reverse,
                exempt=() if settings.as_reference else state.clicked,
            )
        return plan

    def _make_room(self, state: VideoState, frame: int, wanted: int, empty: Sequence[int]) -> list[int]:
        """Objects that give their place to new ones where memory allows fewer than ``wanted``: those without a pixel
        for longest, if for :data:`EMPTY_FRAMES` or more."""
        excess = wanted - (self.limits.max_objects or wanted)
        if excess <= 0:
            return []
        ages = {obj_id: abs(frame - state.empty_since.get(obj_id, frame)) for obj_id in empty}
        old = [obj_id for obj_id, age in ages.items() if age >= EMPTY_FRAMES]
        return sorted(old, key=lambda obj_id: (-ages[obj_id], obj_id))[:excess]

    def recondition(self, state: VideoState, frame: int, found: Detections, tracks: Tracks, plan: FramePlan) -> None:
        """Every so often, tracks that a confident detection covers begin anew from its mask."""
        every = self.settings.recondition_every
        if not every or frame % every:
            return
        logits = dict(zip(tracks.obj_ids, tracks.logits.tolist(), strict=True))
        for obj_id, index in plan.association.confident.items():
            if logits[obj_id] > self.settings.recondition_logit:
                session = state.session_of(obj_id)
                session.add_mask(frame, obj_id, self._prompt(found.masks[index]))
                session.consolidate()

    def blank_occluded(self, state: VideoState, frame: int, tracks: Tracks, plan: FramePlan, is_reverse: bool) -> None:
        """Of tracks on the same pixels, the one that was occluded more recently shows nothing."""
        if not self.settings.occlusion_iou or len(tracks.obj_ids) <= 1:
            if tracks.obj_ids:
                self._note_occlusion(state, frame, tracks, torch.zeros(len(tracks.obj_ids), dtype=torch.bool))
            return
        last = [state.last_occluded.get(obj_id, NEVER) for obj_id in tracks.obj_ids]
        blank = overlapping_to_blank(
            tracks.masks > 0,
            last,
            self.settings.occlusion_iou,
            is_reverse=is_reverse,
            symmetric=not self.settings.as_reference,
        )
        plan.blanked = [obj_id for obj_id, yes in zip(tracks.obj_ids, blank.tolist(), strict=True) if yes]
        self._note_occlusion(state, frame, tracks, blank)
        tracks.masks = torch.where(blank[:, None, None], _BLANK, tracks.masks)

    def _note_occlusion(self, state: VideoState, frame: int, tracks: Tracks, blank: Tensor) -> None:
        is_empty = ~(tracks.masks > 0).flatten(1).any(1)
        for obj_id, gone in zip(tracks.obj_ids, (is_empty | blank.to(is_empty.device)).tolist(), strict=True):
            state.last_occluded[obj_id] = frame if gone else state.last_occluded.get(obj_id, NEVER)
        since = {obj_id: state.empty_since.get(obj_id, frame) for obj_id in tracks.obj_ids}
        state.empty_since = {obj_id: since[obj_id] for obj_id, yes in zip(since, is_empty.tolist(), strict=True) if yes}

    def remember(self, state: VideoState, frame: int, tracks: Tracks) -> None:
        """Encode what is left of every object after its neighbours took their pixels."""
        if not tracks.obj_ids:
            return
        side = self.tracker.config.memory_mask_size
        masks = F.interpolate(tracks.masks[:, None].float(), (side, side), mode="bilinear", align_corners=False)
        masks = blank_if_mostly_lost(masks, min_share=self.settings.min_share_kept, floor=_BLANK)
        is_there = (masks > 0).flatten(1).any(1, keepdim=True)
        scores = torch.where(is_there, _REMEMBERED, -_REMEMBERED)
        remember_all(state.sessions, frame, masks, scores, self.partners)

    def _begin(
        self, state: VideoState, frame: int, found: Detections, plan: FramePlan, features: FeatureSource
    ) -> dict[int, Tensor]:
        """A session for the objects that appear on this frame; their masks at the size of the video."""
        if not plan.new_ids:
            return {}
        masks = found.masks[plan.association.new_detections]
        session = self.new_session(state, features)
        for obj_id, mask in zip(plan.new_ids, masks, strict=True):
            session.add_mask(frame, obj_id, self._prompt(mask))
        session.consolidate()
        state.sessions.append(session)
        return self._video_masks(plan.new_ids, clean_masks(masks, self.clean_area), state.video_size)

    def _prompt(self, logits: Tensor) -> Tensor:
        """(h, w) logits of a detection -> (S, S) mask as the tracker takes it."""
        side = self.tracker.config.memory_mask_size
        large = F.interpolate(logits[None, None].float(), (side, side), mode="bilinear", align_corners=False)
        return (large[0, 0] > 0).float()

    def _video_masks(self, obj_ids: list[int], logits: Tensor, size: tuple[int, int]) -> dict[int, Tensor]:
        """Id -> (H, W) bool on the CPU, one object at a time."""
        return {
            obj_id: (
                F.interpolate(mask[None, None].float(), size, mode="bilinear", align_corners=False)[0, 0] > 0
            ).cpu()
            for obj_id, mask in zip(obj_ids, logits, strict=True)
        }
