"""Matchers, losses, schedules and parameter groups against the fixtures of a folder (its README describes them).

Limits are that README's: values 1e-5 relative, gradients 1e-4 of the largest entry, indices exact.
The order of matched pairs carries no meaning and is not compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam3.structures import DetectorOutput, QueryPredictions, Targets
from sam3.train.losses.criterion import Criterion
from sam3.train.losses.elementary import dice_loss, iou_prediction_loss, sigmoid_focal_loss
from sam3.train.losses.find import BoxLoss, ClassificationLoss
from sam3.train.losses.masks import MaskLoss, choose_points, sample_at
from sam3.train.losses.semantic import SemanticLoss
from sam3.train.losses.terms import LossTerm, weighted_sum
from sam3.train.matcher import HungarianMatcher, Matches, OneToManyMatcher
from tests.parity.report import Row, rows_or_miss
from tests.parity.training_optim import check_groups, check_schedules, has_json, read_json

VALUE_LIMIT, GRADIENT_LIMIT = 1e-5, 1e-4

_VIDEO = "loss of tracked queries in video training; the image model has none"
NOT_COVERED = {"loss.iabce.separate_det_trk": _VIDEO, "loss.det2trk.*": _VIDEO, "loss.tbd_assoc": _VIDEO}
"""Fixtures that are passed over, and why; their class and settings tell them, the names are the recorded ones."""

_VIDEO_CLASSES = ("Det2TrkAssoc", "TrackingByDetectionAssoc")
_VIDEO_SETTINGS = (
    "use_separate_loss_for_det_and_trk",
    "no_loss_for_fp_propagation",
    "apply_loss_to_det_queries_in_video_grounding",
    "num_det_queries",
    "det_*",
    "trk_*",
)

_ZERO_IF_ABSENT = ("presence_loss", "presence_dec_acc", "loss_semantic_presence", "presence_acc")
"""The reference logs a constant 0 where a layer or a model has no presence logit; we log nothing."""

_NEW_NAMES = {"weight_dict": "weights", "compute_aux": "on_every_layer", "presence_head": "only_present"}
_SHIPPED_MATCHER = {"focal": True, "cost_class": 2.0, "cost_bbox": 5.0, "cost_giou": 2.0}
_OTHER_DEFAULTS: dict[str, dict[str, Any]] = {
    "BinaryHungarianMatcherV2": {"cost_class": 1.0, "cost_bbox": 1.0, "cost_giou": 1.0, "focal": False},
    "BinaryOneToManyMatcher": {"topk": 6},
    "IABCEMdetr": {"gamma": 0, "weak_loss": True, "use_presence": False},
    "wrapper": {"o2m_weight": 1.0, "o2m_matcher_on_aux": True, "scale_by_prompts": False},
}
"""What the reference takes where a fixture does not say and our default is another (spec 6, 7)."""

_VALUE_FLOOR = 1e-2
"""Smaller values are compared as if they were this large: below, they are sums of larger terms that nearly cancel."""


def check(directory: str | Path) -> list[Row]:
    """All rows of the folder's loss, schedule and group fixtures."""
    directory, rows = Path(directory), []
    for fixture in _read_fixtures(directory):
        if not _is_passed_over(fixture):
            rows += rows_or_miss(fixture.name, lambda fixture=fixture: _check_fixture(fixture))
    for name, check_file in (("lr_schedule.json", check_schedules), ("param_groups.json", check_groups)):
        if has_json(directory / name):
            rows += rows_or_miss(name, lambda path=directory / name, check_file=check_file: check_file(path))
    return rows


@dataclass(frozen=True)
class _Fixture:
    """One entry of losses.json; strings in it that name a tensor are looked up in ``tensors``."""

    name: str
    entry: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def tensor(self, key: str) -> Tensor:
        return self.tensors[self.entry[key]]

    def leaves(self) -> dict[str, Tensor]:
        """The inputs, those of floating point as leaves that collect a gradient."""
        named = {name: self.tensors[tensor].clone() for name, tensor in self.entry["inputs"].items() if tensor}
        return {n: t.requires_grad_() if t.is_floating_point() else t.bool() for n, t in named.items()}

    def targets(self) -> Targets:
        named = {key: self.tensors[name] for key, name in self.entry["targets"].items() if name is not None}
        counts, boxes = named["num_boxes"], named["boxes"]
        flags = {key: named[key].bool() for key in ("masks", "is_valid_mask", "semantic_masks") if key in named}
        if "masks" in flags and flags["masks"].dim() == 1:
            flags["masks"] = flags["masks"].reshape(0, 1, 1)
        return Targets(
            num_boxes=counts,
            boxes=boxes.reshape(-1, 4),
            boxes_padded=named["boxes_padded"],
            object_ids=named.get("object_ids_packed", torch.arange(len(boxes))),
            object_ids_padded=named.get("object_ids_padded", torch.zeros(named["boxes_padded"].shape[:2]).long()),
            is_exhaustive=named.get("is_exhaustive", torch.ones_like(counts)).bool(),
            masks=flags.get("masks"),
            mask_is_valid=flags.get("is_valid_mask"),
            semantic_masks=flags.get("semantic_masks"),
        )

    def settings(self, *dropped: str) -> dict[str, Any]:
        """Our names of what the fixture configures; null is the default on both sides."""
        dropped += _VIDEO_SETTINGS
        given = {
            _NEW_NAMES.get(key, key): value
            for key, value in self.entry["cfg"].items()
            if value is not None and not any(fnmatchcase(key, pattern) for pattern in dropped)
        }
        return _OTHER_DEFAULTS.get(self.entry["class"], {}) | given


def _read_fixtures(directory: Path) -> list[_Fixture]:
    from safetensors.torch import load_file

    if not has_json(directory / "losses.json"):
        return []
    tensors = load_file(directory / "losses.safetensors")
    entries = read_json(directory / "losses.json")
    return [_Fixture(name, entry, tensors) for name, entry in entries.items()]


def _is_passed_over(fixture: _Fixture) -> bool:
    settings = fixture.entry.get("cfg", {})
    is_video = settings.get("use_separate_loss_for_det_and_trk") or settings.get("no_loss_for_fp_propagation")
    return bool(is_video) or fixture.entry.get("class") in _VIDEO_CLASSES


def _check_fixture(fixture: _Fixture) -> Iterator[Row]:
    """By the class that the fixture names, else (functions have none) by the beginning of its name."""
    by_class: dict[str, Callable[[_Fixture], Iterator[Row]]] = {
        "BinaryHungarianMatcherV2": _check_one_to_one,
        "BinaryOneToManyMatcher": _check_one_to_many,
        "SemanticSegCriterion": _check_semantic,
        **dict.fromkeys(_TERMS, _check_term),
    }
    by_name = {
        "loss.sem.": _check_semantic,
        "focal": _check_focal,
        "dice": _check_dice,
        "iou_loss": _check_iou_prediction,
        "wrapper": _check_criterion,
    }
    if fixture.entry.get("class") in by_class:
        return by_class[fixture.entry["class"]](fixture)
    for beginning, check_one in by_name.items():
        if "class" not in fixture.entry and fixture.name.startswith(beginning):
            return check_one(fixture)
    return iter([Row(f"{fixture.name}: no check for this fixture", math.nan, 0)])


# --- comparison -------------------------------------------------------------------------------------------------------


def _value_row(name: str, found: Mapping[str, Tensor], expected: Mapping[str, float]) -> Row:
    """Largest relative error of named scalars; a missing or surplus name is a miss."""
    optional = {key for key in expected if key.startswith(_ZERO_IF_ABSENT) and expected[key] == 0}
    if set(found) - set(expected) or set(expected) - set(found) - optional:
        return Row(f"{name}: other components ({sorted(set(found) ^ set(expected))})", math.nan, VALUE_LIMIT)
    errors = [abs(found[key].item() - expected[key]) / max(abs(expected[key]), _VALUE_FLOOR) for key in found]
    return Row(f"{name}: {len(expected)} components", _worst(errors), VALUE_LIMIT)


def _gradient_row(fixture: _Fixture, leaves: Mapping[str, Tensor]) -> Row:
    """Largest error of any gradient over the largest entry of that gradient."""
    errors = []
    for name, tensor in fixture.entry["grads"].items():
        expected = fixture.tensors[tensor]
        found = leaves[name].grad if leaves[name].grad is not None else torch.zeros_like(expected)
        errors.append(_gradient_error(found, expected))
    return Row(f"{fixture.name}: {len(errors)} gradients", _worst(errors), GRADIENT_LIMIT)


def _gradient_error(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return math.nan
    if expected.numel() == 0:
        return 0.0
    largest = expected.abs().max().item()
    return (found - expected).abs().max().item() / (largest or 1.0)


def _worst(errors: list[float]) -> float:
    return math.nan if any(math.isnan(error) for error in errors) else max(errors, default=0.0)


def _matches_row(name: str, found: Matches, expected: Matches) -> Row:
    """Pairs that only one side has."""
    pairs = [set(zip(m.prompt.tolist(), m.query.tolist(), m.target.tolist(), strict=True)) for m in (found, expected)]
    repeated = len(found) - len(pairs[0])
    return Row(f"{name}: {len(expected)} pairs", float(len(pairs[0] ^ pairs[1]) + repeated), 0)


def _recorded_matches(indices: list[list[int] | None]) -> Matches:
    """(prompt, query, target or None = all packed targets in order) as recorded."""
    prompt, query, target = (None if column is None else torch.tensor(column).long() for column in indices)
    return Matches(prompt, query, torch.arange(len(prompt)) if target is None else target)


def _predictions(leaves: Mapping[str, Tensor], prefix: str = "", suffix: str = "") -> QueryPredictions:
    boxes = leaves[f"{prefix}pred_boxes{suffix}"]
    return QueryPredictions(
        logits=leaves[f"{prefix}pred_logits{suffix}"],
        boxes=boxes,
        boxes_xyxy=leaves.get(f"{prefix}pred_boxes_xyxy{suffix}", boxes),
        presence_logits=None if suffix else leaves.get(f"{prefix}presence_logit_dec"),
        masks=leaves.get(f"{prefix}pred_masks{suffix}"),
    )


# --- matchers ---------------------------------------------------------------------------------------------------------


def _check_one_to_one(fixture: _Fixture) -> Iterator[Row]:
    return _check_matcher(HungarianMatcher(**fixture.settings("remove_samples_with_0_gt")), fixture)


def _check_one_to_many(fixture: _Fixture) -> Iterator[Row]:
    return _check_matcher(OneToManyMatcher(**fixture.settings()), fixture)


def _check_matcher(matcher: HungarianMatcher | OneToManyMatcher, fixture: _Fixture) -> Iterator[Row]:
    leaves = fixture.leaves()
    found = matcher(
        _predictions(leaves),
        fixture.targets(),
        query_is_valid=leaves.get("out_is_valid"),
        target_is_valid=leaves.get("target_is_valid_padded"),
    )
    expected = _recorded_matches([fixture.entry[key] for key in ("batch_idx", "src_idx", "tgt_idx")])
    yield _matches_row(fixture.name, found, expected)


# --- terms ------------------------------------------------------------------------------------------------------------


class _LastObjectWins(ClassificationLoss):
    """A query that serves several objects learns to answer for the last, as in the reference, instead of the best one.

    The winner is undefined there (spec 12.4, defect 35); on one CPU thread it is the last.
    """

    def _soft_targets(self, predictions: QueryPredictions, targets: Targets, matches: Matches) -> tuple[Tensor, Tensor]:
        query = matches.prompt * predictions.logits.shape[1] + matches.query
        is_last = ~(query[:, None] == query).triu(1).any(1)
        return super()._soft_targets(predictions, targets, matches.select(is_last))


_TERMS: dict[str, type[LossTerm]] = {"Boxes": BoxLoss, "IABCEMdetr": _LastObjectWins, "Masks": MaskLoss}


def _check_term(fixture: _Fixture) -> Iterator[Row]:
    term = _TERMS[fixture.entry["class"]](**fixture.settings())
    leaves, expected = fixture.leaves(), dict(fixture.entry["losses"])
    if fixture.entry["is_aux"] and not term.on_every_layer:
        yield _value_row(fixture.name, {"core_loss": torch.zeros(())}, expected)
        return
    matches = _recorded_matches(fixture.entry["indices"])
    num_boxes = torch.tensor(fixture.entry["num_boxes"])
    if "point_coords" in fixture.entry:
        yield from _check_points(fixture, leaves["pred_masks"].detach(), matches)
        term = _with_recorded_points(term, fixture.tensor("point_coords"))
    components = term(_predictions(leaves), fixture.targets(), matches, num_boxes)
    yield from _check_components(fixture, components, term.weights, leaves)


def _check_components(
    fixture: _Fixture, components: Mapping[str, Tensor], weights: Mapping[str, float], leaves: Mapping[str, Tensor]
) -> Iterator[Row]:
    total = torch.as_tensor(weighted_sum(components, weights))
    yield _value_row(fixture.name, {**components, "core_loss": total}, fixture.entry["losses"])
    if total.requires_grad:
        total.backward()
    yield _gradient_row(fixture, leaves)


def _check_points(fixture: _Fixture, mask_logits: Tensor, matches: Matches) -> Iterator[Row]:
    """The choice of sampled points from the recorded random draws."""
    valid = matches.select(fixture.targets().mask_is_valid[matches.target])
    candidates, uniform = fixture.tensor("rand_oversampled"), fixture.tensor("rand_extra")
    expected, logits = fixture.tensor("point_coords"), valid.gather(mask_logits)
    points = choose_points(logits, candidates, uniform, num_uncertain=expected.shape[1] - uniform.shape[1])
    yield Row(f"{fixture.name}: chosen points", _gradient_error(points, expected), VALUE_LIMIT)
    error = _gradient_error(sample_at(logits, points), fixture.tensor("sampled_logits"))
    yield Row(f"{fixture.name}: sampled logits", error, VALUE_LIMIT)


def _with_recorded_points(term: MaskLoss, points: Tensor) -> MaskLoss:
    class RecordedPoints(MaskLoss):
        def _sample_points(self, logits: Tensor) -> Tensor:
            return points

    return RecordedPoints(**vars(term))


def _check_semantic(fixture: _Fixture) -> Iterator[Row]:
    if "error" in fixture.entry:
        yield _check_defect_of_all_negative(fixture)
        return
    loss = SemanticLoss(**fixture.settings("presence_loss"))
    leaves = fixture.leaves()
    with_presence = loss.only_present and fixture.entry["cfg"].get("presence_loss", True)
    presence = leaves["presence_logit"] if with_presence else None
    components = loss(leaves["semantic_seg"], fixture.targets(), presence)
    yield from _check_components(fixture, components, loss.weights, leaves)


def _check_defect_of_all_negative(fixture: _Fixture) -> Row:
    """The reference fails on a batch without any object; ours is 0 (spec 12.4, defect 37)."""
    logits = fixture.tensors[f"{fixture.name}.in.semantic_seg"]
    prompts = len(logits)
    targets = Targets(
        num_boxes=torch.zeros(prompts).long(),
        boxes=torch.zeros(0, 4),
        boxes_padded=torch.zeros(prompts, 0, 4),
        object_ids=torch.zeros(0).long(),
        object_ids_padded=torch.zeros(prompts, 0).long(),
        is_exhaustive=torch.ones(prompts).bool(),
        masks=torch.zeros(0, *logits.shape[-2:]).bool(),
    )
    loss = SemanticLoss(only_present=True, focal=True)
    total = torch.as_tensor(weighted_sum(loss(logits, targets), loss.weights))
    return Row(f"{fixture.name}: 0 where the reference fails", total.abs().item(), 0)


# --- elementary functions ---------------------------------------------------------------------------------------------


def _check_focal(fixture: _Fixture) -> Iterator[Row]:
    entry = fixture.entry
    logits = fixture.tensor("inputs").clone().requires_grad_()
    targets = fixture.tensor("targets") if "targets" in entry else fixture.tensors[f"{fixture.name}.y"]
    loss = sigmoid_focal_loss(logits, targets, alpha=entry["alpha"], gamma=entry["gamma"])
    if "unreduced_fwd" in entry:
        yield Row(f"{fixture.name}: forward", _gradient_error(loss, fixture.tensor("unreduced_fwd")), VALUE_LIMIT)
    total = loss.mean(1).sum() / entry["num_boxes"]
    yield from _check_scalar(fixture, total, logits)


def _check_dice(fixture: _Fixture) -> Iterator[Row]:
    logits = fixture.tensor("inputs").clone().requires_grad_()
    loss = dice_loss(logits, fixture.tensor("targets"))
    yield Row(f"{fixture.name}: forward", _gradient_error(loss, fixture.tensor("unreduced")), VALUE_LIMIT)
    yield from _check_scalar(fixture, loss.sum() / fixture.entry["num_boxes"], logits)


def _check_iou_prediction(fixture: _Fixture) -> Iterator[Row]:
    predicted = fixture.tensor("pred_ious").clone().requires_grad_()
    l1 = "l1_True" in fixture.name
    loss = iou_prediction_loss(predicted, fixture.tensor("pred_masks"), fixture.tensor("gt"), l1=l1)
    yield from _check_scalar(fixture, loss.sum() / fixture.entry["num_boxes"], predicted)


def _check_scalar(fixture: _Fixture, total: Tensor, leaf: Tensor) -> Iterator[Row]:
    total.backward()
    yield _value_row(fixture.name, {"loss": total}, {"loss": fixture.entry["loss"]})
    yield Row(f"{fixture.name}: gradient", _gradient_error(leaf.grad, fixture.tensor("grad")), GRADIENT_LIMIT)


# --- criterion --------------------------------------------------------------------------------------------------------


def _check_criterion(fixture: _Fixture) -> Iterator[Row]:
    leaves, targets = fixture.leaves(), fixture.targets()
    aux = [f"aux{index}." for index in range(fixture.entry["n_aux"])]
    with_many = "pred_logits_o2m" in leaves
    output = DetectorOutput(
        one_to_one=_predictions(leaves),
        one_to_many=_predictions(leaves, suffix="_o2m") if with_many else None,
        aux_one_to_one=[_predictions(leaves, prefix) for prefix in aux],
        aux_one_to_many=[_predictions(leaves, prefix, "_o2m") for prefix in aux if with_many],
    )
    criterion = _recorded_criterion(fixture)
    layers = criterion.matcher.match_layers([output.one_to_one, *output.aux_one_to_one], targets)
    recorded = [fixture.entry["indices_main"], *fixture.entry["indices_aux"]]
    for index, (found, indices) in enumerate(zip(layers, recorded, strict=True)):
        yield _matches_row(f"{fixture.name}: layer {index - 1 if index else 'last'}", found, _recorded_matches(indices))

    losses = criterion(output, targets)
    expected = {name: _own_value(name, value, criterion) for name, value in fixture.entry["losses"].items()}
    yield _value_row(fixture.name, {**losses.parts, "core_loss": losses.total}, expected)
    losses.total.backward()
    yield _gradient_row(fixture, leaves)


def _recorded_criterion(fixture: _Fixture) -> Criterion:
    """The shipped loss with what the fixture changes."""
    names = {
        "use_o2m_matcher_on_o2m_aux": "o2m_matcher_on_aux",
        "scale_by_find_batch_size": "scale_by_prompts",
        "loss_fn_semantic_seg": "semantic",
    }
    settings = {names.get(name, name): value for name, value in fixture.entry["wrapper"].items()}
    terms = [BoxLoss(), _LastObjectWins(pad_n_queries=fixture.entry["pad_n_queries"]), MaskLoss()]
    settings = _OTHER_DEFAULTS["wrapper"] | settings
    return Criterion(terms, HungarianMatcher(**_SHIPPED_MATCHER), OneToManyMatcher(), **settings)


def _own_value(name: str, value: float, criterion: Criterion) -> float:
    """The reference multiplies the F1 of one-to-many queries by their loss weight (spec 12.4, defect 39); we do not."""
    return value / criterion.o2m_weight if name.startswith("ce_f1") and name.endswith("_o2m") else value
