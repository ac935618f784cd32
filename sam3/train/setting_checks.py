"""Checks that the settings of a run share; each message names the key, what came and what was expected."""

from collections.abc import Iterable
from typing import Any

from sam3.errors import ConfigError


def one_of(key: str, value: Any, allowed: Iterable[str]) -> None:
    """Raise ``ConfigError`` unless the value is one of those allowed."""
    if value not in tuple(allowed):
        raise ConfigError(f"{key} is {value!r}; expected one of {', '.join(allowed)}")


def positive(prefix: str, settings: Any, names: Iterable[str]) -> None:
    """Raise ``ConfigError`` for a named setting below 1."""
    for name in names:
        if getattr(settings, name) < 1:
            raise ConfigError(f"{prefix}.{name} is {getattr(settings, name)}; expected 1 or more")


def not_negative(prefix: str, settings: Any, names: Iterable[str]) -> None:
    """Raise ``ConfigError`` for a named setting below 0."""
    for name in names:
        if getattr(settings, name) < 0:
            raise ConfigError(f"{prefix}.{name} is {getattr(settings, name)}; expected 0 or more")
