"""cgF1 in slow plain Python, written from spec/evaluation.md 2 line by line: what the fast code is compared with."""

from __future__ import annotations

import math
from itertools import permutations

THRESHOLDS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95]

Pixels = frozenset  # the (row, column) that a mask covers


def pixel_iou(a: Pixels, b: Pixels) -> float:
    return len(a & b) / len(a | b) if a and b else 0.0


def best_assignment(ious: list[list[float]]) -> list[float]:
    """IoU of the pairs of an assignment with the largest sum, by trying every one."""
    if len(ious) > len(ious[0]):
        ious = [list(column) for column in zip(*ious, strict=True)]
    choices = permutations(range(len(ious[0])), len(ious))
    return max(([row[column] for row, column in zip(ious, choice, strict=True)] for choice in choices), key=math.fsum)


def judge(predictions: list[tuple[float, Pixels]], objects: list[Pixels]) -> dict:
    """Counts per threshold of one pair against one annotator; ``f`` is None of a true negative."""
    found = [mask for score, mask in predictions if score >= 0.5]
    if not found and not objects:
        return {"outcome": "TN", "counts": None, "f": None, "positive": False}
    if found and objects:
        outcome = "TP"
        assigned = best_assignment([[pixel_iou(d, g) for g in objects] for d in found])
    else:
        outcome, assigned = ("FP" if found else "FN"), []
    counts, local = [], []
    for threshold in THRESHOLDS:
        tp = sum(1 for value in assigned if value >= threshold)
        counts.append((tp, len(found) - tp, len(objects) - tp))
        p, r = tp / (len(found) + 1e-4), tp / (len(objects) + 1e-4)
        local.append(2 * p * r / (p + r + 1e-4) if outcome == "TP" else 0.0)
    return {"outcome": outcome, "counts": counts, "f": local, "positive": bool(objects)}


def choose(judged: list[dict]) -> dict:
    best = judged[0]
    for current in judged[1:]:
        if best["f"] is not None and current["f"] is not None:
            if math.fsum(current["f"]) > math.fsum(best["f"]) + 1e-12:
                best = current
        elif current["outcome"] == "TN":
            best = current
    return best


def cgf1(pairs: list[tuple[list[tuple[float, Pixels]], list[list[Pixels]]]]) -> dict[str, float]:
    """The 26 numbers without the prefix of their names; a pair is (predictions, objects of each annotator)."""
    chosen = [choose([judge(predictions, objects) for objects in annotators]) for predictions, annotators in pairs]
    number = {name: float(sum(1 for c in chosen if c["outcome"] == name)) for name in ("TP", "FP", "TN", "FN")}
    tp, fp, tn, fn = (number[name] for name in ("TP", "FP", "TN", "FN"))
    mcc = (tp * tn - fp * fn) / (math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) + 1e-6)
    rows = [_rates(chosen, index, mcc, tp) for index in range(10)]
    result = {name: _mean([row[name] for row in rows]) for name in rows[0]}
    il_p, il_r = tp / (tp + fp + 1e-6), tp / (tp + fn + 1e-6)
    result |= {
        "IL_precision": il_p,
        "IL_recall": il_r,
        "IL_F1": 2 * il_p * il_r / (il_p + il_r + 1e-6),
        "IL_FPR": fp / (fp + tn + 1e-6),
        "IL_MCC": mcc,
    }
    for at, index in ((0.5, 0), (0.75, 5)):
        result |= {f"{name}@{at}": _mean([value]) for name, value in rows[index].items()}
    return result


def _rates(chosen: list[dict], index: int, mcc: float, pairs_with_both: float) -> dict[str, float]:
    counted = [(c["counts"][index], c["positive"]) for c in chosen if c["counts"]]
    tp, fp, fn = (sum(counts[k] for counts, _ in counted) for k in range(3))
    fp_positive = sum(counts[1] for counts, positive in counted if positive)
    p, r, pp = tp / (tp + fp + 1e-4), tp / (tp + fn + 1e-4), tp / (tp + fp_positive + 1e-4)
    micro = 2 * pp * r / (pp + r + 1e-4)
    local = sum(c["f"][index] for c in chosen if c["positive"])
    return {
        "cgF1": micro * mcc,
        "precision": p,
        "recall": r,
        "F1": 2 * p * r / (p + r + 1e-4),
        "positive_macro_F1": local / pairs_with_both if pairs_with_both else math.nan,
        "positive_micro_F1": micro,
        "positive_micro_precision": pp,
    }


def _mean(values: list[float]) -> float:
    valid = [value for value in values if value > -1]
    return sum(valid) / len(valid) if valid else -1.0


def is_unique(ious: list[list[float]]) -> bool:
    """Whether every assignment with the largest sum has the same IoUs."""
    if len(ious) > len(ious[0]):
        ious = [list(column) for column in zip(*ious, strict=True)]
    choices = permutations(range(len(ious[0])), len(ious))
    values = [sorted(row[column] for row, column in zip(ious, choice, strict=True)) for choice in choices]
    best = max(map(math.fsum, values))
    near = [value for value in values if math.fsum(value) > best - 1e-9]
    return all(value == near[0] for value in near)
