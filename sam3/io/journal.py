"""A list that grows on disk: one JSON line an entry, readable after ``kill -9`` up to the last whole line."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sam3.errors import DataError


class Journal:
    """Append-only file whose first line says what the entries belong to.

    Args:
        path: made on the first :meth:`append`.
        header: what the entries depend on; entries of another header are not taken up.
    """

    def __init__(self, path: str | Path, header: dict[str, Any]) -> None:
        self.path = Path(path)
        self.header = json.loads(json.dumps(header))
        self._file = None

    def append(self, entry: Any) -> None:
        """Write one entry; it is on its way to the disk when this returns."""
        if self._file is None:
            self._open()
        self._file.write(_line(entry))
        self._file.flush()

    def close(self) -> None:
        """Make sure that everything is on the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            with open(self.path, "rb+") as file:
                file.truncate(_whole_bytes(self.path))
        self._file = open(self.path, "ab")
        if not self._file.tell():
            self._file.write(_line(self.header))


def read_journal(path: str | Path, header: dict[str, Any]) -> Iterator[Any]:
    """The whole entries of a journal.

    Raises:
        DataError: it belongs to something else; the message says in what it differs.
    """
    expected = json.loads(json.dumps(header))
    end = _whole_bytes(path)
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            if file.tell() > end:
                return
            value = _parsed(line, f"{path}: line {number + 1}")
            if number:
                yield value
            elif value != expected:
                raise DataError(f"{path} was begun with other settings: {_difference(value, expected)}")


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _whole_bytes(path: str | Path) -> int:
    """Length up to the last line that is complete."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            last = file.read(end - start).rfind(b"\n")
            if last >= 0:
                return start + last + 1
            end = start
    return 0


def _parsed(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is damaged ({error}); delete the file to begin anew") from error


def _difference(found: Any, expected: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return "no header"
    keys = [key for key in {**found, **expected} if found.get(key) != expected.get(key)]
    return "; ".join(f"{key}: {found.get(key)} -> {expected.get(key)}" for key in keys)
