"""Amounts of memory as people write them."""

import re

from sam3.errors import UserError

_UNITS = {"": 2**30, "gib": 2**30, "gb": 10**9, "mib": 2**20, "mb": 10**6}


def parse_size(text: str | int, name: str = "the size") -> int:
    """``16GiB``, ``24`` (GiB), ``40 GB`` -> bytes; a number that is no text is bytes already.

    Raises:
        UserError: it is no size; the message calls it ``name``.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text > 0:
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text) if isinstance(text, str) else None
    if match is None or match[2].lower() not in _UNITS or float(match[1]) <= 0:
        raise UserError(f"{name} is {text!r}; expected a size such as 16GiB or 24GB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def format_size(count: float) -> str:
    """Bytes -> ``1.2 GiB`` or ``340 MiB``."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
