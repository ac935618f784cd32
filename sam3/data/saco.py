"""SA-Co/Gold and Silver ground truth: every entry of ``images`` is one (picture, phrase) pair. No torch.

Source: spec/evaluation.md 1.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3.errors import DataError
from sam3.io.files import read_json


@dataclass(frozen=True, slots=True)
class SacoPair:
    """One phrase asked of one picture."""

    pair_id: int
    file_name: str  # below the image folder
    phrase: str
    height: int  # pixels of the original picture
    width: int
    category_id: int  # ``queried_category``, passed on


def read_pairs(path: str | Path) -> list[SacoPair]:
    """All pairs of an annotation file, in its order; the annotations themselves are not looked at.

    Raises:
        DataError: unreadable, or an entry without a needed field; names file, entry and field.
    """
    content = read_json(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("images"), list):
        raise DataError(f"{path} is not an SA-Co file: it must be an object with the list images")
    pairs = [_pair(entry, f"{path}: images[{position}]") for position, entry in enumerate(content["images"])]
    seen: set[int] = set()
    for pair in pairs:
        if pair.pair_id in seen:
            raise DataError(f"{path}: the id {pair.pair_id} appears more than once in images")
        seen.add(pair.pair_id)
    return pairs


def _pair(entry: Any, where: str) -> SacoPair:
    needed = ("id", "file_name", "text_input", "height", "width")
    missing = [key for key in needed if not isinstance(entry, Mapping) or entry.get(key) is None]
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)}")
    try:
        numbers = [int(entry[key]) for key in ("id", "height", "width")]
        category_id = int(entry.get("queried_category", 1))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: id, height, width and queried_category must be whole numbers ({error})") from error
    if min(numbers[1:]) < 1:
        raise DataError(f"{where}: height and width must be positive, got {numbers[1]} and {numbers[2]}")
    if not str(entry["text_input"]).strip():
        raise DataError(f"{where}: text_input is empty; there is nothing to ask for")
    return SacoPair(numbers[0], str(entry["file_name"]), str(entry["text_input"]), *numbers[1:], category_id)
