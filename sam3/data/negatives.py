"""Phrases from outside the data set, asked of its pictures as absent. No torch.

A model that is only ever asked for what it was annotated with learns to say yes. :class:`Negatives` is the recipe of
training, :class:`HeldOutPhrases` that of validation; each becomes a :class:`PhraseSource` once the classes are known.
What the phrases may not be, and the risk that stays: ``docs/open_vocabulary.md``.
"""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sam3.data.general_phrases import general_phrases
from sam3.data.phrase_rules import ClassNames, near_misses
from sam3.errors import ConfigError, DataError, listed
from sam3.io.files import read_json

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PhraseSource:
    """Phrases that are absent from the pictures of one data set, ready to be drawn.

    Drawn phrases have no category; :meth:`category_id` gives each a number below zero of its own.
    """

    per_image: int
    near: Mapping[str, Sequence[str]]  # class -> phrases like it
    near_share: float  # of the draws for pictures that show a class with such phrases
    pools: Sequence[Sequence[str]]  # each is as likely as the other, however long

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """All that can be drawn, each once."""
        return tuple(dict.fromkeys(phrase for group in (*self.near.values(), *self.pools) for phrase in group))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {phrase: -1 - index for index, phrase in enumerate(self.phrases)}

    def draw(self, positives: Sequence[str], rng: random.Random) -> list[str]:
        """Up to ``per_image`` different phrases for a picture that shows ``positives``."""
        drawn: list[str] = []
        near = [self.near[name] for name in positives if self.near.get(name)]
        for _ in range(self.per_image):
            groups = near if near and rng.random() < self.near_share else self.pools or near
            if not groups:
                break
            phrase = rng.choice(rng.choice(groups))
            if phrase not in drawn:
                drawn.append(phrase)
        return drawn

    def category_id(self, phrase: str) -> int:
        """-1, -2, ... in the order of ``phrases``."""
        return self._numbers[phrase]

    def phrase_of(self, category_id: int) -> str:
        """Inverse of :meth:`category_id`."""
        return self.phrases[-1 - category_id]


@dataclass(frozen=True)
class Negatives:
    """What training asks of each picture beside the classes of the data set, as absent.

    Args:
        per_image: phrases a picture, drawn anew every epoch; 0 = none.
        near_misses: share of them that resemble a class in the picture ("blue circle" for "red circle").
        general: draw from the built-in list of several hundred common noun phrases.
        other_names: names of other data sets: phrases, COCO files (``.json``), or text files of one phrase a line.
    """

    per_image: int = 1
    near_misses: float = 0.5
    general: bool = True
    other_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.per_image < 0:
            raise ConfigError(f"negatives.per_image is {self.per_image}; expected 0 or more")
        if not 0 <= self.near_misses <= 1:
            raise ConfigError(f"negatives.near_misses is {self.near_misses}; expected a share from 0 to 1")

    def source(self, classes: Sequence[str]) -> PhraseSource:
        """Ready to draw for a data set of ``classes``; what may name one of them is left out."""
        names = ClassNames(classes)
        others = _absent(_read_names(self.other_names), names)
        general = _absent_general(names, held_out=False) if self.general else []
        near = {each: _absent(near_misses(each, [*others, *general]), names) for each in classes}
        pools = [pool for pool in (others, general) if pool]
        if self.per_image and not pools and not any(near.values()):
            _log.warning(
                "no phrase from outside the data set can be asked as absent: each may name %s", listed(classes)
            )
        return PhraseSource(self.per_image, near if self.near_misses else {}, self.near_misses, pools)


@dataclass(frozen=True)
class HeldOutPhrases:
    """What validation asks of each picture beside the classes: general phrases that training never sees.

    Args:
        per_image: phrases a picture, always the same ones; 0 = none.
    """

    per_image: int = 2

    def __post_init__(self) -> None:
        if self.per_image < 0:
            raise ConfigError(f"probes.per_image is {self.per_image}; expected 0 or more")

    def source(self, classes: Sequence[str]) -> PhraseSource:
        """Ready to draw for a data set of ``classes``; what may name one of them is left out."""
        pool = _absent_general(ClassNames(classes), held_out=True)
        return PhraseSource(self.per_image, {}, 0.0, [pool] if pool else [])


def drift_phrases(classes: Sequence[str], count: int) -> list[str]:
    """Phrases that training never sees and that no class may be meant by; half of them are things of everyday pictures,
    which a model with an open vocabulary often finds, half are not."""
    names = ClassNames(classes)
    allowed = [e for e in general_phrases() if e.is_held_out and not any(map(names.may_include, e.names))]
    everyday = [entry.text for entry in allowed if entry.is_everyday]
    others = [entry.text for entry in allowed if not entry.is_everyday]
    return [*_evenly(everyday, (count + 1) // 2), *_evenly(others, count // 2)]


def _evenly(values: Sequence[str], count: int) -> list[str]:
    count = min(count, len(values))
    return [values[place * len(values) // count] for place in range(count)]


def _absent(phrases: Sequence[str], names: ClassNames) -> list[str]:
    return [phrase for phrase in dict.fromkeys(phrases) if not names.may_include(phrase)]


def _absent_general(names: ClassNames, *, held_out: bool) -> list[str]:
    """Of the built-in list, without what may stand in any picture."""
    entries = [entry for entry in general_phrases() if entry.is_held_out == held_out and not entry.is_everyday]
    return [entry.text for entry in entries if not any(map(names.may_include, entry.names))]


def _read_names(given: Sequence[str]) -> list[str]:
    """Phrases as they are given, or of the files that are named."""
    if isinstance(given, str):
        raise ConfigError(f"negatives.other_names must be a list of phrases or files, got the text {given!r}")
    return [name for entry in given for name in _names_of(str(entry))]


def _names_of(entry: str) -> list[str]:
    path = Path(entry).expanduser()
    if path.suffix == ".json":
        content = read_json(path)
        categories = content.get("categories") if isinstance(content, dict) else None
        if not isinstance(categories, list) or not all(isinstance(c, dict) and c.get("name") for c in categories):
            raise DataError(f"negatives.other_names: {path} has no list of categories with names")
        return [str(category["name"]) for category in categories]
    if path.suffix == ".txt":
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"negatives.other_names: cannot read {path}: {error}") from error
        return [line.strip() for line in lines if line.strip()]
    return [entry]
