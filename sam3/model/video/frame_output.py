"""What a frame shows: the objects that are there, by rising id, without overlap (spec/tracker_video.md 6.11)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sam3.ops.masks import is_any, masks_to_boxes, without_overlap


@dataclass
class FrameObjects:
    """N objects of one frame, rising ids."""

    obj_ids: list[int]
    scores: Tensor  # (N,) float32, of the detection that began the object; 1 for objects that a person made
    boxes_xywh: Tensor  # (N, 4) float32, relative to the picture
    masks: Tensor  # (N, H, W) bool
    num_dropped: int = 0  # objects that found no place on this frame, see docs/video_memory.md


def assemble(
    masks: Mapping[int, Tensor],
    scores: Mapping[int, float],
    tracker_scores: Mapping[int, float],
    *,
    size: tuple[int, int],
    hidden: Collection[int] = (),
    inclusive_boxes: bool = False,
    drop_emptied: bool = True,
) -> FrameObjects:
    """
    Args:
        masks: id -> (H, W) bool.
        scores: id -> score when the object began.
        tracker_scores: id -> how sure the tracker is of it on this frame; a missing one counts as 0.
        size: (H, W).
        hidden: ids that do not show.
        inclusive_boxes: boxes end at the last pixel instead of after it, as in the reference.
        drop_emptied: an object that loses all its pixels to others does not show. The reference shows its box.
    """
    known = [obj_id for obj_id in sorted(masks) if obj_id not in hidden]
    stack = torch.stack([masks[obj_id] for obj_id in known]) if known else torch.zeros(0, *size, dtype=torch.bool)
    shown, stack = _not_empty(known, stack)
    boxes = _relative_boxes(stack, size, inclusive=inclusive_boxes)
    if len(shown) > 1:
        stack = without_overlap(
            stack, torch.tensor([tracker_scores.get(obj_id, 0.0) for obj_id in shown]).to(stack.device)
        )
        if drop_emptied:
            kept = is_any(stack)
            boxes = boxes[kept]
            shown, stack = _not_empty(shown, stack)
    return FrameObjects(shown, torch.tensor([scores[obj_id] for obj_id in shown], dtype=torch.float32), boxes, stack)


def _not_empty(obj_ids: list[int], masks: Tensor) -> tuple[list[int], Tensor]:
    """The objects that have pixels; ids and (N, H, W) bool."""
    there = is_any(masks)
    return [obj_id for obj_id, yes in zip(obj_ids, there.tolist(), strict=True) if yes], masks[there]


def joined(parts: Sequence[FrameObjects]) -> tuple[FrameObjects, list[int]]:
    """The objects of several parts by rising id, and which part each is of; their masks may overlap."""
    order = sorted((obj_id, part, row) for part, one in enumerate(parts) for row, obj_id in enumerate(one.obj_ids))
    rows = torch.tensor(
        [sum(len(one.obj_ids) for one in parts[:part]) + row for _, part, row in order], dtype=torch.long
    )
    together = FrameObjects(
        [obj_id for obj_id, _, _ in order],
        torch.cat([one.scores for one in parts])[rows],
        torch.cat([one.boxes_xywh for one in parts])[rows],
        torch.cat([one.masks for one in parts])[rows],
        sum(one.num_dropped for one in parts),
    )
    return together, [part for _, part, _ in order]


def _relative_boxes(masks: Tensor, size: tuple[int, int], *, inclusive: bool) -> Tensor:
    height, width = size
    corners = masks_to_boxes(masks)
    if inclusive:
        corners = corners - corners.new_tensor([0, 0, 1, 1])
    scale = corners.new_tensor([width, height, width, height])
    return torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1) / scale
