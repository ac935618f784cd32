"""The built-in list of common noun phrases, by topic, and which of them training never sees. No torch.

The list is ``sam3/assets/general_phrases.txt``. An eighth of it is held out by a checksum of the phrase: validation
asks those, so a low firing rate there means that silence was learnt for words in general, not word by word.
"""

import zlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

EVERYDAY = "everyday"  # topic of what may stand in any picture
HELD_OUT_SHARE = 8  # one phrase in so many


@dataclass(frozen=True)
class GeneralPhrase:
    """One thing with its usual names."""

    names: tuple[str, ...]  # the first one is what is asked
    topic: str
    broader: tuple[str, ...]  # words for the whole topic

    @property
    def text(self) -> str:
        return self.names[0]

    @property
    def is_everyday(self) -> bool:
        """Too common in pictures to be taught as absent."""
        return self.topic == EVERYDAY

    @property
    def is_held_out(self) -> bool:
        """Never trained. Decided by the text alone, so it stays so when the list grows."""
        return self.is_everyday or zlib.crc32(self.text.encode()) % HELD_OUT_SHARE == 0


@cache
def general_phrases() -> tuple[GeneralPhrase, ...]:
    """The whole list in the order of the file."""
    text = (files("sam3") / "assets" / "general_phrases.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return tuple(phrase for line in lines for phrase in _phrases_of_line(line))


def _phrases_of_line(line: str) -> list[GeneralPhrase]:
    """``topic (broader, ...): phrase, phrase = synonym, ...``"""
    head, _, entries = line.partition(": ")
    topic, _, broader = head.removesuffix(")").partition(" (")
    return [
        GeneralPhrase(tuple(name.strip() for name in entry.split("=")), topic, tuple(broader.split(", ")))
        for entry in entries.split(",")
    ]
