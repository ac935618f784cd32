"""Functions that YAML files may call, as in ``${times:8e-4,${scratch.lr_scale}}`` (spec/training.md 1.5)."""

import math
from typing import Any

from hydra.utils import get_class, get_method
from omegaconf import OmegaConf

from sam3.config import resolve_config


def register_resolvers() -> None:
    """Make the resolvers known; calling it again changes nothing."""
    for name, function in _RESOLVERS.items():
        OmegaConf.register_new_resolver(name, function, replace=True)


def _class_prompts(name: str | None) -> dict[str, str] | None:
    """Every category is asked for by ``name``; null leaves the names of the annotation file."""
    return None if name is None else {"*": name}


def _preset_resolution(preset: str) -> int:
    """The input side a model preset is made for."""
    return resolve_config(preset).vision.image_size


_RESOLVERS: dict[str, Any] = {
    "get_method": get_method,
    "get_class": get_class,
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "divide": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "times": lambda *factors: math.prod(factors),
    "range": lambda count: list(range(count)),
    "int": int,
    "ceil_int": math.ceil,
    "string": str,
    "merge": OmegaConf.merge,
    "class_prompts": _class_prompts,
    "preset_resolution": _preset_resolution,
}
