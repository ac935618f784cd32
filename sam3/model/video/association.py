"""Detections against tracks on one frame: what is new, what was seen again, what was not (spec/tracker_video.md 6.5).

Pure functions on masks and scores.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from sam3.model.video.settings import VideoSettings
from sam3.ops.boxes import box_xyxy_to_cxcywh
from sam3.ops.masks import mask_iou


@dataclass(frozen=True)
class Association:
    """How the detections and tracks of one frame belong together; detections by index, tracks by object id."""

    new_detections: list[int] = field(default_factory=list)
    matches: dict[int, list[int]] = field(default_factory=dict)  # detection -> objects it overlaps
    unmatched: list[int] = field(default_factory=list)  # objects that are there and were not detected
    empty: list[int] = field(default_factory=list)  # objects without a pixel: neither matched nor unmatched
    confident: dict[int, int] = field(default_factory=dict)  # object -> detection good enough to re-condition it

    @property
    def matched(self) -> set[int]:
        """Objects that some detection overlaps."""
        return {obj_id for objects in self.matches.values() for obj_id in objects}


def associate(
    detections: Tensor, scores: Tensor, tracks: Tensor, obj_ids: list[int], settings: VideoSettings
) -> Association:
    """
    Args:
        detections: (D, h, w) mask logits.
        scores: (D,) in [0, 1].
        tracks: (N, H, W) mask logits; the larger of both sizes is reduced to the smaller.
        obj_ids: N ids.
    """
    found, seen = (masks > 0 for masks in _at_one_size(detections, tracks))
    is_empty = ~seen.flatten(1).any(1)
    empty = [obj_id for obj_id, nothing in zip(obj_ids, is_empty.tolist(), strict=True) if nothing]
    if not obj_ids:
        return Association(new_detections=list(range(len(scores))))  # the first ones need not be especially sure
    if not len(scores):
        return Association(unmatched=[obj_id for obj_id in obj_ids if obj_id not in empty], empty=empty)
    ious = mask_iou(found, seen)
    is_matched = (ious >= settings.track_match_iou).any(0)
    if settings.one_to_one_matching:
        is_matched = _assigned(ious) >= settings.track_match_iou
    belongs = (ious >= settings.association_iou).tolist()
    is_new = (scores >= settings.new_object_score) & (ious < settings.association_iou).all(1)
    lost = (~is_matched & ~is_empty).tolist()
    return Association(
        new_detections=is_new.nonzero().flatten().tolist(),
        matches={
            index: [obj_id for obj_id, yes in zip(obj_ids, row, strict=True) if yes]
            for index, row in enumerate(belongs)
        },
        unmatched=[obj_id for obj_id, yes in zip(obj_ids, lost, strict=True) if yes],
        empty=empty,
        confident=_confident(ious, scores, is_new, obj_ids, settings),
    )


def _confident(
    ious: Tensor, scores: Tensor, is_new: Tensor, obj_ids: list[int], settings: VideoSettings
) -> dict[int, int]:
    """Object -> the last confident detection whose best match it is."""
    best, track = ious.max(1)
    is_good = (scores >= settings.confident_score) & ~is_new & (best >= settings.confident_iou)
    return {obj_ids[int(track[index])]: index for index in is_good.nonzero().flatten().tolist()}


def _assigned(ious: Tensor) -> Tensor:
    """(N,) IoU of each track with its partner in the best one-to-one assignment; 0 without one."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(1 - ious.cpu().numpy())
    result = ious.new_zeros(ious.shape[1])
    result[torch.from_numpy(columns)] = ious[torch.from_numpy(rows), torch.from_numpy(columns)]
    return result


def _at_one_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both lists of logits at the smaller of their sizes."""
    sizes = first.shape[-2:], second.shape[-2:]
    if sizes[0] == sizes[1]:
        return first, second
    small = min(sizes, key=lambda size: size[0] * size[1])
    return tuple(masks if masks.shape[-2:] == small else _resized(masks, small) for masks in (first, second))


def _resized(masks: Tensor, size: tuple[int, int]) -> Tensor:
    if not len(masks):
        return masks.new_zeros(0, *size)
    return F.interpolate(masks[:, None].float(), tuple(size), mode="bilinear", align_corners=False)[:, 0]


def away_from_border(boxes_xyxy: Tensor, margin: float) -> Tensor:
    """(D, 4) relative boxes -> (D,) bool: the centre is more than ``margin`` inside the picture."""
    centres = box_xyxy_to_cxcywh(boxes_xyxy)[:, :2]
    return ((centres > margin) & (centres < 1 - margin)).all(1)


def within_limit(new_detections: list[int], scores: Tensor, room: int) -> list[int]:
    """All new detections, or the best ``room`` of them by falling score."""
    if len(new_detections) <= room:
        return new_detections
    order = scores[new_detections].sort(descending=True, stable=True).indices[: max(0, room)]
    return [new_detections[index] for index in order.tolist()]


def least_loaded(count: int, workload: list[int]) -> list[int]:
    """The process of each of ``count`` new objects: always the one with the fewest, ties to the lowest number."""
    load, chosen = list(workload), []
    for _ in range(count):
        chosen.append(load.index(min(load)))
        load[chosen[-1]] += 1
    return chosen
