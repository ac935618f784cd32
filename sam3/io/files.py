"""Files are written whole or not at all; JSON is read with errors that name the file; large files are recognised."""

import gc
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sam3.errors import DataError

try:
    import orjson
except ImportError:  # on a machine without a network, where it was not brought along: slower, but the same
    orjson = None

_PARTIAL = ".partial."  # begins the names of files that are being written


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on error it vanishes.

    The temporary file lies in the same folder, so the final step is one rename: a reader, or a
    restart after ``kill -9``, sees the old file or the new one, never half of either.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{_PARTIAL}{path.stem[:40]}.", suffix=path.suffix, dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None:  # a full disk does not say which file it refused
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial_files(folder: str | Path) -> None:
    """Delete what a process that was killed left half written in ``folder``; nobody else may be writing there."""
    for path in Path(folder).glob(f"{_PARTIAL}*"):
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, *, indent: int | None = None) -> None:
    """Write ``value`` as UTF-8 JSON, atomically; NaN and infinities are refused."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False) + "\n")


def write_json_list(path: str | Path, entries: Iterable[Any]) -> None:
    """The bytes of ``write_json(path, list(entries))``, with one entry in memory at a time."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        separator = "["
        for entry in entries:
            stream.write(separator + json.dumps(entry, ensure_ascii=False, allow_nan=False))
            separator = ", "
        stream.write("]\n" if separator == ", " else "[]\n")


def read_json(path: str | Path) -> Any:
    """The value in a UTF-8 JSON file.

    Raises:
        DataError: the file is missing or unreadable, or holds no JSON; the message names it.
    """
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error


def parse_json(text: str) -> Any:
    """The value of a JSON text, read by orjson in half the time of the standard library.

    What orjson refuses (NaN and infinities, half of a surrogate pair, a text that is no JSON at all) the standard
    library reads or words the error of; both give every number that fits into 64 bits alike.

    Raises:
        ValueError: the text is no JSON.
        RecursionError: it is nested too deeply.
    """
    with _no_garbage_collection():
        if orjson is not None:
            with suppress(ValueError):
                return orjson.loads(text)
        return json.loads(text)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Values of JSON hold no cycles; looking for some again and again, as they grow in number, costs a sixth."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def fingerprint(path: str | Path, *, blocks: int = 64, block_bytes: int = 65536) -> str:
    """Fingerprint of a large file: its size and evenly spaced blocks, both ends included.

    Weights trained differently differ nearly everywhere, so the blocks (4 MiB in all) tell them apart in no time.
    The name does not count. A folder's fingerprint covers its files.
    """
    path = Path(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_file():
            continue
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)} {size}".encode())
        with open(file, "rb") as stream:
            for block in range(blocks):
                stream.seek(max(0, size - block_bytes) * block // max(1, blocks - 1))
                digest.update(stream.read(block_bytes))
    return digest.hexdigest()[:16]


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()  # once, at import: it can only be read by changing it, which other threads would feel
