"""Parameter groups: which parameters share a learning rate and a weight decay.

Each option of the optimizer (``lr``, ``weight_decay``) is a list of rules that split the parameters
among them; layer decay splits the rules of ``lr`` once more by depth. A group is one combination of
rules that some parameter falls under. Source: ``spec/training.md`` 4.2-4.4.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from torch import nn

from sam3.errors import ConfigError
from sam3.train.optim.schedules import AnySchedule, ScaledSchedule


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A schedule and the parameters it holds for.

    Without ``param_names`` and ``module_classes`` it holds for all parameters that no other rule of
    the option claims; at most one rule of an option may be such a default.
    """

    schedule: AnySchedule
    param_names: Sequence[str] | None = None
    """Unix patterns of full parameter names."""
    module_classes: Sequence[str] | None = None
    """Dotted names of classes (``torch.nn.LayerNorm``); their own parameters, subclasses excluded."""
    name: str = ""
    """For messages and curves; the patterns by default."""

    @property
    def is_default(self) -> bool:
        return not self.param_names and not self.module_classes

    @property
    def label(self) -> str:
        return self.name or ", ".join([*(self.param_names or ()), *(self.module_classes or ())]) or "default"


@dataclass(frozen=True, kw_only=True)
class LayerDecay:
    """Learning rates that shrink towards the input: block i of n counts ``value ** (n - i)``.

    The patch embedding and what lies before block 0 count ``value ** (n + 1)``; everything behind
    the blocks, and outside ``apply_to``, counts 1.
    """

    value: float
    apply_to: str
    """Name of the transformer within the model; its ``blocks`` are counted."""
    min_value: float = 0.0
    overrides: Sequence[Mapping[str, Any]] = ()
    """``{pattern, value}``: Unix patterns of full names with a multiplier of their own; the first match wins."""

    def __post_init__(self) -> None:
        if not 0 < self.value <= 1:
            raise ConfigError(f"LayerDecay.value must lie in (0, 1], got {self.value}")
        for override in self.overrides:
            if set(override) != {"pattern", "value"}:
                raise ConfigError(f"LayerDecay.overrides needs entries {{pattern, value}}, got {dict(override)}")

    def split(self, names: Sequence[str], num_layers: int) -> list[tuple[float, list[str]]]:
        """The names by multiplier, in the order in which the layers first appear among the sorted names."""
        parts: dict[Any, tuple[float, list[str]]] = {}
        for name in sorted(names):
            key, multiplier = self._layer(name, num_layers)
            parts.setdefault(key, (multiplier, []))[1].append(name)
        return list(parts.values())

    def _layer(self, name: str, num_layers: int) -> tuple[Any, float]:
        for override in self.overrides:
            if fnmatchcase(name, override["pattern"]):
                return override["pattern"], float(override["value"])
        last = num_layers + 1
        layer = layer_index(name, num_layers) if name.startswith(self.apply_to) else last
        return layer, max(self.min_value, self.value ** (last - layer))


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share all their schedules.

    ``label`` is that of the ``lr`` rule and ``lr_multiplier`` its layer decay: groups of one label
    differ in the multiplier (and the weight decay) only.
    """

    names: list[str]
    parameters: list[nn.Parameter]
    schedules: dict[str, AnySchedule]
    label: str
    lr_multiplier: float = 1.0


@dataclass(frozen=True)
class _Part:
    """The parameters of one rule, or of one layer of it."""

    rule: Rule
    names: frozenset[str]
    multiplier: float = 1.0

    @property
    def schedule(self) -> AnySchedule:
        return (
            self.rule.schedule
            if self.multiplier == 1
            else ScaledSchedule(schedule=self.rule.schedule, factor=self.multiplier)
        )


def make_groups(
    model: nn.Module,
    options: Mapping[str, Sequence[Rule]],
    *,
    layer_decay: LayerDecay | None = None,
) -> list[ParameterGroup]:
    """Splits the model's trainable parameters into groups; every one lands in exactly one of them.

    Groups follow the order of the rules (of ``lr`` first), parameters that of the model. Groups
    without a parameter are left out.

    Args:
        options: Rules of each option, e.g. ``{"lr": [...], "weight_decay": [...]}``; ``lr`` is required.

    Raises:
        ConfigError: A pattern or class matches nothing, two rules of an option claim a parameter, or none does.
    """
    if "lr" not in options:
        raise ConfigError(f"optim.options needs rules for lr, got {sorted(options)}")
    parameters = dict(model.named_parameters())
    parts = {option: _claim(option, rules, model, list(parameters)) for option, rules in options.items()}
    if layer_decay is not None:
        depth = _num_layers(model, layer_decay.apply_to)
        parts["lr"] = [piece for part in parts["lr"] for piece in _split_by_layer(part, layer_decay, depth)]
    groups = []
    for combination in product(*parts.values()):
        shared = frozenset.intersection(*(part.names for part in combination))
        names = [name for name, p in parameters.items() if name in shared and p.requires_grad]
        if names:
            by_option = dict(zip(parts, combination, strict=True))
            groups.append(
                ParameterGroup(
                    names=names,
                    parameters=[parameters[name] for name in names],
                    schedules={option: part.schedule for option, part in by_option.items()},
                    label=by_option["lr"].rule.label,
                    lr_multiplier=by_option["lr"].multiplier,
                )
            )
    if not groups:
        raise ConfigError("the model has no trainable parameter; check the frozen patterns (model.freeze)")
    return groups


def layer_index(name: str, num_layers: int) -> int:
    """Depth of a parameter of a ViT: 0 before block 0, k + 1 in block k, ``num_layers`` + 1 behind the blocks."""
    if "rel_pos" in name:
        return num_layers + 1
    if any(early in name for early in ("ln_pre", "pos_embed", "cls_token", "patch_embed")):
        return 0
    block = re.search(r"blocks\.(\d+)\.", name)
    return int(block.group(1)) + 1 if block else num_layers + 1


def _claim(option: str, rules: Sequence[Rule], model: nn.Module, names: Sequence[str]) -> list[_Part]:
    """The parameters of each rule of an option; together all of them, none twice."""
    if sum(rule.is_default for rule in rules) > 1:
        raise ConfigError(f"optim.options.{option}: more than one rule without param_names and module_classes")
    owner: dict[str, Rule] = {}
    for rule in rules:
        for name in _matching(f"optim.options.{option}", rule, model, names):
            if name in owner:
                raise ConfigError(
                    f"optim.options.{option}: parameter {name!r} falls under two rules, {owner[name].label!r} and "
                    f"{rule.label!r}; make their patterns disjoint"
                )
            owner[name] = rule
    default = next((rule for rule in rules if rule.is_default), None)
    unclaimed = [name for name in names if name not in owner]
    if unclaimed and default is None:
        raise ConfigError(
            f"optim.options.{option}: {len(unclaimed)} parameters fall under no rule (first: {unclaimed[0]!r}); "
            "add a rule without patterns, it takes the rest"
        )
    claimed = [frozenset(name for name in names if owner.get(name, default) is rule) for rule in rules]
    return [_Part(rule, own) for rule, own in zip(rules, claimed, strict=True)]


def _matching(key: str, rule: Rule, model: nn.Module, names: Sequence[str]) -> set[str]:
    """Names that the patterns and classes of a rule select."""
    selected: set[str] = set()
    for pattern in rule.param_names or ():
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise ConfigError(f"{key}: pattern {pattern!r} matches no parameter of the model (first: {names[0]!r})")
        selected.update(found)
    for class_name in rule.module_classes or ():
        found = _owned_by(model, _find_class(key, class_name))
        if not found:
            raise ConfigError(f"{key}: no module of the model is a {class_name} with parameters")
        selected.update(found)
    return selected


def _owned_by(model: nn.Module, module_class: type) -> list[str]:
    """Names of the parameters directly owned by modules of exactly this class."""
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if type(module) is module_class
        for name, _ in module.named_parameters(recurse=False)
    ]


def _find_class(key: str, dotted: str) -> type:
    module_name, _, name = dotted.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}: module class {dotted!r} does not exist; write it as torch.nn.LayerNorm") from error
    if not isinstance(found, type):
        raise ConfigError(f"{key}: {dotted!r} is not a class")
    return found


def _num_layers(model: nn.Module, apply_to: str) -> int:
    try:
        return len(model.get_submodule(apply_to).blocks)
    except AttributeError as error:
        raise ConfigError(f"layer_decay.apply_to: the model has no {apply_to!r} with blocks") from error


def _split_by_layer(part: _Part, decay: LayerDecay, num_layers: int) -> list[_Part]:
    split = decay.split(list(part.names), num_layers)
    return [_Part(part.rule, frozenset(names), multiplier) for multiplier, names in split]
