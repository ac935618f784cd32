"""Parts that people swap: nodes with a ``_target_``, checked when a configuration is loaded, built when it is used."""

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from sam3.errors import ConfigError, UserError


def build_part(node: Any) -> Any:
    """What a ``_target_`` node describes, inner nodes first; None for None.

    Raises:
        UserError: whatever the part itself found wrong, unchanged; a :class:`ConfigError` if it refused its arguments.
    """
    try:
        return instantiate(node)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError | OSError):
            raise cause from None
        raise ConfigError(f"{node['_target_']} cannot be built: {cause or error}") from error


def check_targets(node: Any, path: str = "") -> None:
    """Bind the arguments of every ``_target_`` node to the signature of what it names.

    Raises:
        ConfigError: the target does not exist, or does not take an argument; the message names the closest ones.
    """
    if isinstance(node, Mapping):
        if "_target_" in node:
            _bind(node, path)
        for key, value in node.items():
            check_targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            check_targets(value, f"{path}[{index}]")


def _bind(node: Mapping[str, Any], path: str) -> None:
    try:
        target = get_object(node["_target_"])
    except Exception as error:  # Hydra wraps whatever importing the module raised
        raise ConfigError(f"{path}._target_: {node['_target_']!r} cannot be imported: {error}") from error
    if path == "model":
        return  # its keys are the schema's own
    signature = inspect.signature(target)
    arguments = {key for key in node if key not in ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        return
    unknown = sorted(arguments - set(signature.parameters))
    if unknown:
        close = get_close_matches(unknown[0], signature.parameters, n=3) or list(signature.parameters)
        raise ConfigError(f"{path}.{unknown[0]}: {node['_target_']} has no such argument (closest: {', '.join(close)})")
    required = [name for name, p in signature.parameters.items() if p.default is p.empty and name not in arguments]
    if required and not node.get("_partial_"):
        raise ConfigError(f"{path}: {node['_target_']} needs {', '.join(required)}")
