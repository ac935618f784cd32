"""Which phrase asks for which category. No torch."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sam3.errors import DataError, listed

_log = logging.getLogger(__name__)

Prompts = Mapping[Any, str] | Sequence[Mapping[str, Any]] | None


def phrases_of_categories(categories: Mapping[int, str], prompts: Prompts = None) -> dict[int, str]:
    """The text prompt of every category (``spec/config_surface.md`` section 4).

    Args:
        categories: id -> name, as in the annotation file.
        prompts: ``None`` = the names themselves; a list of ``{id, name}`` that names every category once;
            or a mapping whose keys are category ids, category names, or ``"*"`` for all others. An id wins
            over a name, a name over ``"*"``; categories that nothing names keep their own name.

    Raises:
        DataError: an unknown id or name, a category left out of the list, or an empty text.
    """
    if prompts is None:
        phrases = dict(categories)
    elif isinstance(prompts, Mapping):
        phrases = _from_mapping(categories, prompts)
    elif isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise DataError(f"prompts must be a list of {{id, name}} or a mapping, got {type(prompts).__name__}")
    else:
        phrases = _from_list(categories, prompts)
    _check_phrases(phrases)
    return phrases


def check_class_name(categories: Mapping[int, str], class_name: str, *, allow_mismatch: bool = False) -> None:
    """The configured class must be the one the annotation file holds.

    Raises:
        DataError: the file has several categories, or one of another name and ``allow_mismatch`` is false.
    """
    names = list(categories.values())
    if len(names) != 1:
        raise DataError(
            f"dataset.class_name is {class_name!r}, but the annotations have {len(names)} categories "
            f"({listed(names, limit=20)}). Set dataset.class_name to null to train on all of them under their own names"
        )
    if names[0] != class_name and not allow_mismatch:
        raise DataError(
            f"dataset.class_name is {class_name!r}, but the only category of the annotations is {names[0]!r}. "
            f"Set dataset.class_name to {names[0]!r}, or set dataset.allow_name_mismatch to true if "
            f"{class_name!r} is the text you want to prompt with"
        )


def _from_mapping(categories: Mapping[int, str], prompts: Mapping[Any, str]) -> dict[int, str]:
    by_key = {str(key): text for key, text in prompts.items()}
    known = {str(category_id) for category_id in categories} | set(categories.values()) | {"*"}
    unknown = [key for key in by_key if key not in known]
    if unknown:
        raise DataError(
            f"prompts name {listed(unknown, limit=20)}, but the annotations have {describe_categories(categories)}"
        )
    return {
        category_id: by_key.get(str(category_id), by_key.get(name, by_key.get("*", name)))
        for category_id, name in categories.items()
    }


def _from_list(categories: Mapping[int, str], prompts: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    if not all(isinstance(entry, Mapping) and {"id", "name"} <= set(entry) for entry in prompts):
        raise DataError(f"every entry of a prompts list must have the keys id and name, got {list(prompts)!r}")
    repeated = [key for key, count in Counter(entry["id"] for entry in prompts).items() if count > 1]
    if repeated:
        raise DataError(f"prompts give category {repeated[0]!r} more than once")
    texts = {entry["id"]: entry["name"] for entry in prompts}
    unknown = [key for key in texts if key not in categories]
    missing = [category_id for category_id in categories if category_id not in texts]
    if unknown or missing:
        raise DataError(
            f"a prompts list must name every category once: unknown ids {unknown}, missing ids {missing}; "
            f"the annotations have {describe_categories(categories)}"
        )
    return {category_id: texts[category_id] for category_id in categories}


def _check_phrases(phrases: Mapping[int, str]) -> None:
    for category_id, text in phrases.items():
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"the prompt of category {category_id} must be a text of at least one letter, got {text!r}")
    for text, count in Counter(phrases.values()).items():
        if count > 1:
            ids = [category_id for category_id, other in phrases.items() if other == text]
            _log.warning(
                "categories %s share the prompt %r: nothing distinguishes them, and each counts as absent where "
                "only the other is annotated; give each its own prompt",
                ids,
                text,
            )


def describe_categories(categories: Mapping[int, str]) -> str:
    """``categories 1: bolt, 2: nut``, for messages."""
    return "categories " + listed([f"{category_id}: {name}" for category_id, name in categories.items()], limit=20)
