"""Similarity of predictions and objects, and the one-to-one assignment between them.

Masks stay compressed; pycocotools is the definition of both kinds of IoU (spec/evaluation.md 1.5).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sam3.ops.rle import Rle

# Objects of one picture: compressed masks, or boxes (N, 4) xywh in any one unit.
Shapes = Sequence[Rle] | np.ndarray

_FIRST = np.zeros(1, dtype=np.int64)
_ROWS_AT_ONCE = 4096  # predictions whose runs are unpacked together: bounds the memory of a pair with a million of them
_MAX_ENTRIES = 1 << 25  # of one dense matrix, 256 MiB


class Assignment(NamedTuple):
    """Pairs of a prediction and an object, each used at most once; M pairs."""

    predictions: np.ndarray  # (M,) int, rows of the similarity
    objects: np.ndarray  # (M,) int, columns of the similarity
    ious: np.ndarray  # (M,) float64


def similarity(predictions: Shapes, objects: Shapes) -> np.ndarray:
    """IoU of every prediction with every object, (D, G) float64.

    Masks of different sizes have IoU -1 where their tight boxes overlap, two empty masks have 0.
    """
    from pycocotools import mask as coco_mask

    if not len(predictions) or not len(objects):
        return np.zeros((len(predictions), len(objects)))
    not_crowd = [0] * len(objects)
    blocks = [
        coco_mask.iou(predictions[start : start + _ROWS_AT_ONCE], objects, not_crowd)
        for start in range(0, len(predictions), _ROWS_AT_ONCE)
    ]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def assign(ious: np.ndarray) -> Assignment:
    """The assignment with the largest sum of IoU; scores and thresholds play no part (spec/evaluation.md 2.3).

    Args:
        ious: (D, G).
    """
    if ious.shape == (1, 1):
        return Assignment(_FIRST, _FIRST, ious[0])
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(ious, maximize=True)
    return Assignment(rows, columns, ious[rows, columns])


def match(predictions: Shapes, objects: Shapes) -> Assignment:
    """:func:`assign` of the :func:`similarity`, in bounded memory however many predictions there are."""
    if len(predictions) * len(objects) <= _MAX_ENTRIES or len(predictions) <= len(objects):
        return assign(similarity(predictions, objects))
    kept, ious = _contenders(predictions, objects)
    found = assign(ious)
    return found._replace(predictions=kept[found.predictions])


def _contenders(predictions: Shapes, objects: Shapes) -> tuple[np.ndarray, np.ndarray]:
    """The predictions that can be part of a best assignment: indices (K,), their IoU (K, G).

    With G objects a best assignment gives each of them one of its own G best predictions: were it another, one of
    those G would be free and at least as good.
    """
    kept, ious = np.zeros(0, dtype=np.int64), np.zeros((0, len(objects)))
    step = max(_MAX_ENTRIES // len(objects), len(objects))
    for start in range(0, len(predictions), step):
        block = predictions[start : start + step]
        candidates = np.concatenate([kept, np.arange(start, start + len(block))])
        values = np.concatenate([ious, similarity(block, objects)])
        best = np.unique(np.argsort(-values, axis=0, kind="stable")[: len(objects)])
        kept, ious = candidates[best], values[best]
    return kept, ious
