"""COCO AP with arrays instead of loops: equal to pycocotools, in a fraction of its time.

Detections of one rank (the best of its image and category, the second best, ...) choose their objects all at once,
for every IoU threshold and size class; what pycocotools does one by one. Source: spec/evaluation.md section 4.
"""

from typing import NamedTuple

import numpy as np

from sam3.eval.coco_input import CocoInput, Objects

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]], dtype=np.float64)
MAX_DETECTIONS = (1, 10, 100)


class Curves(NamedTuple):
    """What the numbers are means of; -1 where a category has nothing to find."""

    precision: np.ndarray  # (10 thresholds, 101 recalls, categories, 4 size classes, 3 limits of detections)
    recall: np.ndarray  # (10 thresholds, categories, 4 size classes, 3 limits of detections)


class Candidates(NamedTuple):
    """M overlaps of a detection with an object that could make them a match, sorted by detection, IoU, object."""

    detections: np.ndarray  # (M,) int64
    objects: np.ndarray  # (M,) int64
    ious: np.ndarray  # (M,) float64


class Matches(NamedTuple):
    """The choice of the D detections that had one, for each of A size classes and T thresholds."""

    detections: np.ndarray  # (D,) int64
    objects: np.ndarray  # (A, T, D) int64, -1 = none


def precision_and_recall(data: CocoInput) -> Curves:
    """The curves of all categories.

    The precision is that of 100 detections; for the other limits, which no number uses, it stays -1.
    """
    found, ranks = _best_of_each_cell(data)
    matches = _match(_candidates(data, found), data.truth, _cells(data, found))
    return _curves(data, found, ranks, *_outcomes(matches, found, data.truth))


def _cells(data: CocoInput, objects: Objects) -> np.ndarray:
    """A number for every (category, image), rising with both."""
    return objects.categories * data.num_images + objects.images


def _best_of_each_cell(data: CocoInput) -> tuple[Objects, np.ndarray]:
    """Detections by category, image and falling score, the best 100 of each cell, and their rank there, (N,)."""
    cells = _cells(data, data.detections)
    order = np.lexsort((-data.detections.scores, cells))
    cells = cells[order]
    ranks = np.arange(len(cells)) - np.searchsorted(cells, cells, side="left")
    kept = ranks < MAX_DETECTIONS[-1]
    return data.detections.take(order[kept]), ranks[kept]


def _candidates(data: CocoInput, found: Objects) -> Candidates:
    """Overlaps that reach the lowest threshold."""
    truth_cells = _cells(data, data.truth)
    order = np.argsort(truth_cells, kind="stable")
    cells, found_cells = truth_cells[order], _cells(data, found)
    starts, stops = (np.searchsorted(cells, found_cells, side=side) for side in ("left", "right"))
    if data.iou_type == "bbox":
        counts = stops - starts
        detections = np.repeat(np.arange(len(found)), counts)
        offsets = np.arange(len(detections)) - np.repeat(np.cumsum(counts) - counts, counts)
        objects = order[np.repeat(starts, counts) + offsets]
        ious = _box_ious(found.shapes[detections], data.truth.shapes[objects], data.truth.crowd[objects])
    else:
        detections, objects, ious = _mask_overlaps(data.truth, order, found, starts, stops)
    near = np.flatnonzero(ious >= IOU_THRESHOLDS[0])
    near = near[np.lexsort((objects[near], ious[near], detections[near]))]
    return Candidates(detections[near], objects[near], ious[near])


def _box_ious(found: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU of boxes (M, 4) xywh row by row; of a crowd the share of the detection. The arithmetic of pycocotools."""
    x, y, w, h = found.T
    x2, y2, w2, h2 = truth.T
    width = np.minimum(w + x, w2 + x2) - np.maximum(x, x2)
    height = np.minimum(h + y, h2 + y2) - np.maximum(y, y2)
    overlap = width * height
    whole = np.where(crowd, w * h, w * h + w2 * h2 - overlap)
    return np.divide(overlap, whole, out=np.zeros_like(overlap), where=(width > 0) & (height > 0))


def _mask_overlaps(
    truth: Objects, order: np.ndarray, found: Objects, starts: np.ndarray, stops: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detections, objects and IoU of every pair in a cell; ``starts`` to ``stops`` is each one's part of ``order``."""
    from pycocotools import mask as coco_mask

    # Cells are neighbours in `found`; (first detection, number of them, first object, number of them) of each.
    first = np.flatnonzero(np.diff(starts, prepend=-1) | np.diff(stops, prepend=-1))
    cells = np.stack([first, np.diff(first, append=len(found)), starts[first], (stops - starts)[first]], axis=1)
    cells = cells[cells[:, 3] > 0]
    crowd, rows = truth.crowd.tolist(), order.tolist()
    parts = [np.zeros(0)]
    for detection, detections, start, objects in cells.tolist():
        own = rows[start : start + objects]
        masks, is_crowd = [truth.shapes[row] for row in own], [crowd[row] for row in own]
        part = coco_mask.iou(found.shapes[detection : detection + detections], masks, is_crowd)
        parts.append(part.ravel(order="F"))  # object by object
    sizes = cells[:, 1] * cells[:, 3]
    detection, detections, start, _ = np.repeat(cells, sizes, axis=0).T
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return detection + within % detections, order[start + within // detections], np.concatenate(parts)


def _match(candidates: Candidates, truth: Objects, cells: np.ndarray) -> Matches:
    """Greedy choice in the order of the scores, all cells side by side.

    Each detection takes the free object with the largest IoU (the later one of equals), one that counts before one
    that is ignored; crowds are never used up.
    """
    detections, first = np.unique(candidates.detections, return_index=True)
    settings = len(AREA_RANGES), len(IOU_THRESHOLDS)
    chosen = np.full((*settings, len(detections)), -1, dtype=np.int64)
    counts = ~_ignored(truth)  # (A, G)
    taken = np.zeros((*settings, len(truth)), dtype=bool)
    reach = candidates.ious >= np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]  # (T, M)
    lengths = np.diff(first, append=len(candidates.ious))
    turns = np.arange(len(detections)) - np.searchsorted(cells[detections], cells[detections], side="left")
    for turn in range(turns.max(initial=-1) + 1):
        own = np.flatnonzero(turns == turn)  # at most one of each cell
        starts = np.cumsum(lengths[own]) - lengths[own]
        rows = np.repeat(first[own] - starts, lengths[own]) + np.arange(lengths[own].sum())
        objects = candidates.objects[rows]
        free = reach[:, rows] & (truth.crowd[objects] | ~taken[..., objects])  # (A, T, m)
        # The last of the candidates is the best; those that count come after those that do not.
        worth = np.arange(1, len(rows) + 1) + len(rows) * counts[:, None, objects]
        best = np.maximum.reduceat(np.where(free, worth, 0), starts, axis=-1)  # (A, T, d)
        match = np.where(best > 0, objects[(best - 1) % len(rows)], -1)
        chosen[..., own] = match
        area, threshold, row = np.nonzero(match >= 0)
        taken[area, threshold, match[area, threshold, row]] = True
    return Matches(detections, chosen)


def _ignored(objects: Objects) -> np.ndarray:
    """(A, N): crowds, and objects of other sizes than the class."""
    return objects.crowd | (objects.areas < AREA_RANGES[:, :1]) | (objects.areas > AREA_RANGES[:, 1:])


def _outcomes(matches: Matches, found: Objects, truth: Objects) -> tuple[np.ndarray, np.ndarray]:
    """Detections that are right and that are wrong, each (A, T, N) bool; those that are ignored are neither."""
    shape = len(AREA_RANGES), len(IOU_THRESHOLDS), len(found)
    right = np.zeros(shape, dtype=bool)
    wrong = np.broadcast_to(~_ignored(found)[:, None], shape).copy()
    matched = matches.objects >= 0
    areas = np.arange(len(AREA_RANGES))[:, None, None]
    right[..., matches.detections] = matched & ~_ignored(truth)[areas, matches.objects]
    wrong[..., matches.detections] &= ~matched
    return right, wrong


def _curves(data: CocoInput, found: Objects, ranks: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> Curves:
    categories, areas = len(data.category_names), len(AREA_RANGES)
    precision = -np.ones((len(IOU_THRESHOLDS), len(RECALLS), categories, areas, len(MAX_DETECTIONS)))
    recall = -np.ones((len(IOU_THRESHOLDS), categories, areas, len(MAX_DETECTIONS)))
    to_find = np.stack([np.bincount(data.truth.categories[~row], minlength=categories) for row in _ignored(data.truth)])
    bounds = np.searchsorted(found.categories, np.arange(categories + 1))
    for category in np.flatnonzero(to_find.any(axis=0)).tolist():
        rows = np.arange(bounds[category], bounds[category + 1])
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        limits = [ranks[rows] < most for most in MAX_DETECTIONS]
        for area in np.flatnonzero(to_find[:, category]).tolist():
            number = int(to_find[area, category])
            hits, misses = right[area][:, rows], wrong[area][:, rows]
            for limit, within in enumerate(limits):
                recall[:, category, area, limit] = hits[:, within].sum(axis=1) / number
            precision[:, :, category, area, -1] = _precision_at_recalls(hits, misses, number)
    return Curves(precision, recall)


def _precision_at_recalls(right: np.ndarray, wrong: np.ndarray, number: int) -> np.ndarray:
    """(T, 101): the best precision at each recall or beyond, 0 where it is not reached.

    Args:
        right: (T, N), by falling score.
        wrong: (T, N).
        number: of objects to find.
    """
    true, false = np.cumsum(right, axis=1, dtype=float), np.cumsum(wrong, axis=1, dtype=float)
    precision = true / (false + true + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.pad(precision, ((0, 0), (0, 1)))  # behind the last detection: not reached
    reached = [np.searchsorted(row, RECALLS, side="left") for row in true / number]
    return np.take_along_axis(padded, np.array(reached), axis=1)
