"""Functions that YAML files may call, as in ``${times:8e-4,${scratch.lr_scale}}`` (spec/training.md 1.5)."""

import math
from pathlib import Path
from typing import Any

from hydra.utils import get_class, get_method
from omegaconf import OmegaConf

from sam3.config import resolve_config
from sam3.errors import ConfigError


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


def _folder_entry(root: str | None, index: int) -> str:
    """Name of the ``index``-th data set in ``root``: of its sub-folders in alphabetical order, hidden ones left out.

    Raises:
        ConfigError: no such folder, or fewer data sets.
    """
    if root is None or not Path(root).expanduser().is_dir():
        raise ConfigError(f"the folder of the data sets is {root!r}, which does not exist; set its key below paths")
    names = sorted(entry.name for entry in Path(root).expanduser().iterdir() if _is_visible_folder(entry))
    if not 0 <= index < len(names):
        raise ConfigError(f"data.index is {index}, but {root} holds {len(names)} data sets; it counts from 0")
    return names[index]


def _is_visible_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _run_folder(root: str | None, name: str) -> str:
    """The output folder of one of many runs."""
    return str(Path(root or "sam3_logs") / name)


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
    "folder_entry": _folder_entry,
    "entry_of": lambda entries, key: entries.get(key),
    "run_folder": _run_folder,
}
