"""When two phrases may name the same thing, and which phrases lie one step beside another. No torch.

Small rules on words, for English; phrases of other languages are compared as they are written.
"""

import re
from collections.abc import Sequence
from functools import cache

from sam3.data.general_phrases import GeneralPhrase, general_phrases

ANYTHING = frozenset({"thing", "object", "item", "anything", "something", "visual", "stuff"})  # true of every object

# Words that exclude each other as a description of one object.
ATTRIBUTES: tuple[tuple[str, ...], ...] = (
    ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "cyan"),
    ("small", "large"),
    ("open", "closed"),
    ("empty", "full"),
    ("left", "right"),
    ("front", "rear"),
    ("wooden", "metal", "plastic", "paper", "leather", "stone"),
    ("round", "square", "triangular"),
    ("clean", "dirty"),
    ("ripe", "unripe"),
    ("broken", "intact"),
    ("standing", "sitting", "lying"),
)

_IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "teeth": "tooth",
    "feet": "foot", "geese": "goose", "leaves": "leaf", "knives": "knife", "wolves": "wolf", "shelves": "shelf",
    "halves": "half", "loaves": "loaf", "calves": "calf", "dice": "die", "axes": "axe", "shoes": "shoe", "toes": "toe",
    "canoes": "canoe", "hoes": "hoe",
}  # fmt: skip
_SIMILAR_SPELLING = 0.5  # share of common groups of three letters


@cache
def words(phrase: str) -> tuple[str, ...]:
    """Lower-case words in the singular: ``"Red_Boxes"`` -> ``("red", "box")``."""
    return tuple(singular(word) for word in re.split(r"[\W_]+", phrase.casefold()) if word)


def singular(word: str) -> str:
    """One form for singular and plural; not always the dictionary's, but the same for both."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(s|x|z|ch|sh|o)es$", word):
        return word[:-2]
    if word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def may_name_the_same(first: str, second: str) -> bool:
    """Equal up to plural, case and hyphens, or one holds all words of the other (``"car"`` and ``"red cars"``)."""
    one, other = _word_set(first), _word_set(second)
    return one <= other or other <= one or "".join(words(first)) == "".join(words(second))


class ClassNames:
    """What a data set's classes are called; tells which phrases may be true of their objects.

    Args:
        classes: phrases or names of the classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        names = [words(name) for each in classes for name in _names_of(each)]
        self._is_anything = any(name[-1:] and name[-1] in ANYTHING for name in names)
        self._by_word: dict[str, list[frozenset[str]]] = {}
        for name in map(frozenset, names):
            for word in name:
                self._by_word.setdefault(word, []).append(name)
        self._joined = {"".join(name) for name in names}
        self._ends = {end for name in names for end in (name, name[-1:])}
        self._broader = {word for each in classes for word in _broader_words(each)}

    def may_include(self, phrase: str) -> bool:
        """By its words, by a synonym, as a broader word ("vehicle" for a "truck") or as a narrower one."""
        own = words(phrase)
        return (
            self._is_anything
            or own[-1:] and own[-1] in ANYTHING
            or "".join(own) in self._joined
            or any(name <= set(own) or set(own) <= name for word in own for name in self._by_word.get(word, ()))
            or own in self._broader
            or own[-1:] in self._broader
            or not self._ends.isdisjoint(_broader_words(phrase))
        )  # fmt: skip


def near_misses(phrase: str, others: Sequence[str] = ()) -> list[str]:
    """Phrases like ``phrase`` that name something else, the hardest first; some may conflict with other classes.

    First those with one word exchanged: an attribute for another of its kind, or the noun at the end for another of
    its topic in the built-in list. Then those of ``others`` that share a word or are spelt alike.
    """
    found = [*_with_another_attribute(phrase), *_with_another_noun(phrase)]
    own = set(words(phrase))
    alike = [other for other in others if own & set(words(other)) or _spelt_alike(phrase, other)]
    return [each for each in dict.fromkeys(found + alike) if not may_name_the_same(each, phrase)]


def _with_another_attribute(phrase: str) -> list[str]:
    parts = phrase.split()
    return [
        " ".join([*parts[:index], sibling, *parts[index + 1 :]])
        for index, part in enumerate(parts[:-1])
        for kind in ATTRIBUTES
        if part.casefold() in kind
        for sibling in kind
        if sibling != part.casefold()
    ]


def _with_another_noun(phrase: str) -> list[str]:
    entry, length = _entry_at_end(phrase)
    if entry is None:
        return []
    before = phrase.split()[:-length]
    siblings = [p for p in general_phrases() if p.topic == entry.topic and not p.is_held_out and p is not entry]
    return [" ".join([*before, sibling.text]) for sibling in siblings]


def _spelt_alike(first: str, second: str) -> bool:
    one, other = _letter_groups(first), _letter_groups(second)
    return len(one & other) >= _SIMILAR_SPELLING * len(one | other)


@cache
def _letter_groups(phrase: str) -> frozenset[str]:
    text = f" {phrase.casefold()} "
    return frozenset(text[index : index + 3] for index in range(len(text) - 2))


@cache
def _word_set(phrase: str) -> frozenset[str]:
    return frozenset(words(phrase))


@cache
def _entries_by_name() -> dict[tuple[str, ...], GeneralPhrase]:
    """The words of every name in the built-in list -> its entry."""
    return {words(name): entry for entry in general_phrases() for name in entry.names}


@cache
def _entry_at_end(phrase: str) -> tuple[GeneralPhrase | None, int]:
    """The built-in entry whose name ends ``phrase``, and how many words that name has; the longest such name."""
    own = words(phrase)
    for length in range(len(own), 0, -1):
        if entry := _entries_by_name().get(own[-length:]):
            return entry, length
    return None, 0


@cache
def _names_of(phrase: str) -> tuple[str, ...]:
    """``phrase`` with every synonym of its noun: "red bike", "red bicycle"."""
    entry, length = _entry_at_end(phrase)
    if entry is None:
        return (phrase,)
    before = words(phrase)[:-length]
    return (phrase, *(" ".join([*before, name]) for name in entry.names))


@cache
def _broader_words(phrase: str) -> tuple[tuple[str, ...], ...]:
    """Words for the topic of its noun."""
    entry, _ = _entry_at_end(phrase)
    return () if entry is None else tuple(map(words, entry.broader))
