"""Large JSON files read piece by piece, so that what was read can be made small before the next piece comes.

Memory grows with the largest single entry, not with the file.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TextIO

from sam3.errors import DataError
from sam3.io.files import parse_json

_CHUNK = 1 << 20  # characters read at once
_DECODE = json.JSONDecoder().raw_decode
_BLANK = " \t\n\r"
_AFTER = tuple(",:]}" + _BLANK)  # what follows a whole value


def iterate_list(path: str | Path) -> Iterator[Any]:
    """The entries of the list in a UTF-8 JSON file, one by one.

    Raises:
        DataError: no such file, not JSON (a file that breaks off included), or not a list; the message names it.
    """
    with _open(path) as stream:
        text = _Text(stream, path)
        if text.peek() != "[":
            raise DataError(f"{path}: expected a JSON list, got {text.kind()}")
        for block in text.blocks():
            yield from block
        text.expect_end()


def iterate_object(path: str | Path, lists: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The members of the object in a UTF-8 JSON file, in file order: ``(name, value)``.

    The entries of a list that is named in ``lists`` come one by one, each as ``(name, entry)``; an empty one
    as ``(name, [])``.

    Raises:
        DataError: as :func:`iterate_list`; a member named in ``lists`` that is no list is handed out whole.
    """
    for name, value, is_block in _members(path, lists):
        if is_block and value:
            for entry in value:
                yield name, entry
        else:
            yield name, value


def iterate_blocks(path: str | Path, lists: Collection[str]) -> Iterator[tuple[str, list[Any]]]:
    """As :func:`iterate_object`, but the lists alone, and many neighbouring entries at a time: ``(name, entries)``.

    An empty list is one empty block; a member named in ``lists`` that is no list is one block of that value.
    """
    for name, value, is_block in _members(path, lists):
        if name in lists:
            yield name, value if is_block else [value]


def _members(path: str | Path, lists: Collection[str]) -> Iterator[tuple[str, Any, bool]]:
    """Name, value, and whether it is a block of the entries of one of ``lists`` rather than the whole member."""
    with _open(path) as stream:
        text = _Text(stream, path)
        if text.peek() != "{":
            raise DataError(f"{path}: expected a JSON object, got {text.kind()}")
        for name in text.names():
            if name in lists and text.peek() == "[":
                block = None
                for block in text.blocks():
                    yield name, block, True
                if block is None:
                    yield name, [], True
            else:
                yield name, text.value(), False
        text.expect_end()


def _open(path: str | Path) -> TextIO:
    try:
        return open(path, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


class _Text:
    """A window on the text of a file, with a position."""

    def __init__(self, stream: TextIO, path: str | Path) -> None:
        self._stream, self._path = stream, path
        self._window, self._at = "", 0
        self._entry = ""  # what is being read, for messages

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            while self._at < len(self._window):
                if self._window[self._at] not in _BLANK:
                    return self._window[self._at]
                self._at += 1
            if not self._more():
                return ""

    def kind(self) -> str:
        """What stands here, in words."""
        names = {"": "an empty file", "{": "an object", "[": "a list", '"': "text"}
        return names.get(self.peek(), "something else")

    def value(self) -> Any:
        """Read one value of any kind."""
        self.peek()
        while True:
            try:
                value, end = _DECODE(self._window, self._at)
            except ValueError as error:
                if self._more():
                    continue
                raise self._broken(str(getattr(error, "msg", error))) from error
            except RecursionError as error:
                raise self._broken("nested too deeply") from error
            if self._window[end : end + 1] not in _AFTER and self._more():
                continue  # a number that the window cuts looks whole: ``1`` of ``1.5``
            self._at = end
            return value

    def blocks(self) -> Iterator[list[Any]]:
        """Read a list: a few neighbouring entries at a time, at least one."""
        self._skip("[")
        index, in_batches = 0, True
        while self.peek() != "]":
            if index:
                self._skip(",")
            self._entry = f"entry {index}"
            batch = self._whole_entries() if in_batches and self.peek() == "{" else []
            in_batches = in_batches and batch is not None
            batch = batch or [self.value()]
            yield batch
            index += len(batch)
        self._skip("]")
        self._entry = ""

    def _whole_entries(self) -> list[Any] | None:
        """The entries that the window holds whole, but for the last, read by one call; ``None`` if that fails.

        The cut is made where an object ends and another begins. Inside an entry (in a list of objects, in a text)
        such a place leaves brackets or quotes open, so that the piece is no JSON.
        """
        cut = self._last_cut()
        if cut < 0 and self._more():  # rather than trying to read an entry of which the window holds a part
            cut = self._last_cut()
        if cut < 0:
            return []
        end_of_list = self._window.find("}]", self._at, cut)  # if it is one, the cut lies beyond the list
        for end in ([] if end_of_list < 0 else [end_of_list + 1]) + [cut + 1]:
            try:
                entries = parse_json(f"[{self._window[self._at : end]}]")
            except (ValueError, RecursionError):
                continue
            self._at = max(self._at, end)
            return entries
        return None

    def _last_cut(self) -> int:
        return max(self._window.rfind(between, self._at) for between in ("}, {", "},{"))

    def names(self) -> Iterator[str]:
        """Read an object: yields each name, the caller reads the value."""
        self._skip("{")
        first = True
        while self.peek() != "}":
            if not first:
                self._skip(",")
            if self.peek() != '"':
                raise self._broken('expected a name in "quotes"')
            name = self.value()
            self._skip(":")
            self._entry = f"the value of {name!r}"
            yield name
            first = False
        self._skip("}")

    def expect_end(self) -> None:
        """Nothing may follow."""
        if self.peek():
            raise self._broken("more text after the end")

    def _skip(self, mark: str) -> None:
        found = self.peek()
        if found != mark:
            raise self._broken(f"expected {mark!r}, found {found!r}" if found else "the file breaks off")
        self._at += 1

    def _more(self) -> bool:
        try:
            # As much again as is there already: a long value is not begun anew for every chunk.
            chunk = self._stream.read(max(_CHUNK, len(self._window) - self._at))
        except UnicodeDecodeError as error:
            raise self._broken(f"not UTF-8 ({error.reason})") from error
        except OSError as error:
            raise DataError(f"cannot read {self._path}: {error.strerror or error}") from error
        self._window, self._at = self._window[self._at :] + chunk, 0
        return bool(chunk)

    def _broken(self, why: str) -> DataError:
        where = f" in {self._entry}" if self._entry else ""
        return DataError(f"{self._path} is not valid JSON{where}: {why}")
