"""Schedules and parameter groups against ``lr_schedule.json`` and ``param_groups.json``."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sam3.train.optim.groups import LayerDecay, ParameterGroup, Rule, make_groups
from sam3.train.optim.optimizer import ScheduledOptimizer
from sam3.train.optim.schedules import ConstantSchedule, InverseSquareRootSchedule
from tests.parity.report import Row

VALUE_LIMIT = 1e-12  # the same float64 arithmetic in another order
TRUNK = "backbone.vision_backbone.trunk"
PATTERNS = {"vision_backbone": ["backbone.vision_backbone.*"], "language_backbone": ["backbone.language_backbone.*"]}
GROUP_NORMS = "segmentation_head.pixel_decoder.norms."


def read_json(path: Path) -> Any:
    """A JSON file, or its gzip-compressed form (``.json.gz``) where only that is there."""
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    with gzip.open(path.with_name(path.name + ".gz"), "rt", encoding="utf-8") as file:
        return json.load(file)


def has_json(path: Path) -> bool:
    """Whether :func:`read_json` finds something to read."""
    return path.exists() or path.with_name(path.name + ".gz").exists()


def check_schedules(path: Path) -> list[Row]:
    """Learning rates at single steps and along whole trainings of the reference."""
    recorded = read_json(path)
    rows = []
    for case in recorded.get("direct", ()):
        errors = [_lr_error(case["cfg"], *row) for row in case["rows"]]
        rows.append(Row(f"schedule {_short(case['cfg'])}, {case['total_steps']} steps", max(errors), VALUE_LIMIT))
    for case in recorded.get("trainer_sequence", ()):
        columns = [dict(zip(case["columns"], row, strict=True)) for row in case["rows"]]
        errors = [_lr_error(case["cfg"], row["step"], row["where"], row["lr"]) for row in columns]
        name = f"schedule in training, {case['max_epochs']} epochs of {case['iters_per_epoch']}"
        rows.append(Row(name, max(errors), VALUE_LIMIT))
    if "zero_division_case" in recorded:
        rows.append(_total_equals_warmup(recorded["zero_division_case"]))
    return rows


def _lr_error(settings: Mapping[str, Any], step: int, where: float, expected: float) -> float:
    """The reference recovers the total from the step and the fraction done; 1 at the start."""
    found = InverseSquareRootSchedule(**settings)(step, step / where if where > 0 else 1)
    return abs(found - expected) / (abs(expected) or 1.0)


def _total_equals_warmup(case: Mapping[str, Any]) -> Row:
    """The reference divides by zero here; the formula itself has a value (spec 12.4, defect 31)."""
    settings, step = case["cfg"], case["step"]
    total = step / case["where"]
    found = InverseSquareRootSchedule(**settings)(step, total)
    cooldown = min(1, (total - step) / settings["cooldown_steps"]) if settings["cooldown_steps"] else 1
    expected = settings["base_lr"] * step / settings["warmup_steps"] * cooldown
    return Row("schedule with as many steps as warm-up", abs(found - expected) / expected, VALUE_LIMIT)


def _short(settings: Mapping[str, Any]) -> str:
    return "/".join(f"{settings[key]:g}" for key in ("base_lr", "warmup_steps", "timescale", "cooldown_steps"))


def check_groups(path: Path) -> list[Row]:
    """The groups of the full model with and without segmentation head, and our model's parameter names."""
    recorded = read_json(path)
    full, shapes = recorded["segmentation"], recorded["param_shapes"]
    groups = _groups_of(_skeleton(shapes), full["groups"])
    rows = [
        Row("parameter groups: parameters in another group", _misplaced(groups, full["param_to_group"]), 0),
        *_describe("parameter groups", groups, full),
    ]
    if "no_segmentation" in recorded:
        without_head = {name: shape for name, shape in shapes.items() if not name.startswith("segmentation_head.")}
        boxes_only = recorded["no_segmentation"]
        groups = _groups_of(_skeleton(without_head), boxes_only["groups"])
        rows += _describe("parameter groups without masks", groups, boxes_only)
    if "adamw_defaults" in recorded:
        rows.append(_optimizer_defaults(groups, recorded["adamw_defaults"]))
    return rows + _check_own_model(recorded)


def _groups_of(model: nn.Module, recorded: Sequence[Mapping[str, Any]]) -> list[ParameterGroup]:
    """The shipped rules with the recorded values; the layer decay is the multiplier of the last block."""
    base = {group["base"]: group["base_lr"] for group in recorded}
    layer_decay = max((m for group in recorded if (m := group["lr_multiplier"]) < 1), default=1.0)
    decay = max(group["weight_decay"] for group in recorded)
    return make_groups(
        model,
        {
            "lr": [
                Rule(schedule=ConstantSchedule(value=value), param_names=PATTERNS.get(name, ()))
                for name, value in base.items()
            ],
            "weight_decay": [
                Rule(schedule=ConstantSchedule(value=decay)),
                Rule(
                    schedule=ConstantSchedule(value=0.0),
                    param_names=["*bias*"],
                    module_classes=["torch.nn.LayerNorm"],
                ),
            ],
        },
        layer_decay=LayerDecay(value=layer_decay, apply_to=TRUNK, overrides=[{"pattern": "*pos_embed*", "value": 1.0}]),
    )


def _skeleton(shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """A model without computation that has these parameters, in this order, on the meta device.

    The fixtures do not record classes: a module that owns a one-dimensional weight is a LayerNorm,
    except the group norms of the mask head.
    """
    root = nn.Module()
    for name, shape in shapes.items():
        *path, own = name.split(".")
        module = root
        for depth, part in enumerate(path, start=1):
            if part not in dict(module.named_children()):
                owner = ".".join(path[:depth])
                module.add_module(part, _module_of(owner, shapes))
            module = module.get_submodule(part)
        module.register_parameter(own, nn.Parameter(torch.empty(*shape, device="meta")))
    return root


def _module_of(owner: str, shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    is_norm = len(shapes.get(f"{owner}.weight", ())) == 1 and not owner.startswith(GROUP_NORMS)
    if is_norm:
        return nn.LayerNorm(shapes[f"{owner}.weight"], device="meta")
    return nn.ModuleList() if owner.endswith(".blocks") else nn.Module()


def _misplaced(groups: Sequence[ParameterGroup], expected: Mapping[str, int]) -> float:
    found = {name: index for index, group in enumerate(groups) for name in group.names}
    return float(sum(found.get(name) != index for name, index in expected.items()) + len(set(found) - set(expected)))


def _describe(title: str, groups: Sequence[ParameterGroup], recorded: Mapping[str, Any]) -> list[Row]:
    """Number, sizes and values of the groups."""
    difference = abs(len(groups) - recorded["n_groups"])
    rows = [Row(f"{title}: {recorded['n_groups']} groups", float(difference), 0)]
    if difference:
        return rows
    optimizer = ScheduledOptimizer(groups, torch.optim.AdamW).optimizer
    wrong, errors = 0, [0.0]
    for group, own, expected in zip(groups, optimizer.param_groups, recorded["groups"], strict=True):
        size = (len(group.names), sum(parameter.numel() for parameter in group.parameters))
        wrong += size != (expected["n_params"], expected["numel"])
        wrong += (group.names[0], group.names[-1]) != (expected["first"], expected["last"])
        lr = expected["base_lr"] * expected["lr_multiplier"]
        errors += [abs(own["lr"] - lr) / lr, abs(own["weight_decay"] - expected["weight_decay"])]
        errors.append(abs(group.lr_multiplier - expected["lr_multiplier"]))
    return [
        *rows,
        Row(f"{title}: groups with other parameters", float(wrong), 0),
        Row(f"{title}: learning rate and weight decay", max(errors), VALUE_LIMIT),
    ]


def _optimizer_defaults(groups: Sequence[ParameterGroup], expected: Mapping[str, Any]) -> Row:
    defaults = ScheduledOptimizer(groups, torch.optim.AdamW).optimizer.defaults
    differing = [key for key in ("betas", "eps", "amsgrad") if _plain(defaults[key]) != expected[key]]
    return Row("AdamW: betas, eps, amsgrad", float(len(differing)), 0)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_own_model(recorded: Mapping[str, Any]) -> list[Row]:
    """Our network at the released size: the same parameters in the same groups."""
    from sam3.model_builder import build_sam3_image_model

    with torch.device("meta"):
        model = build_sam3_image_model(load_from_HF=False, device="meta", eval_mode=False)
    found = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    shapes = recorded["param_shapes"]
    differing = sum(found.get(name) != shape for name, shape in shapes.items()) + len(set(found) - set(shapes))
    full = recorded["segmentation"]
    groups = _groups_of(model, full["groups"])
    misplaced = _misplaced(groups, full["param_to_group"]) if not differing else math.nan
    return [
        Row("our model: parameters of other name or shape", float(differing), 0),
        Row("our model: parameters in another group", misplaced, 0),
    ]
