"""The one network client of the data preparation: resumable downloads that appear whole or not at all.

Standard library only; tested against a server on the loopback interface.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam3.errors import UserError
from sam3.io.files import read_json, write_json

_BLOCK = 1 << 20  # bytes read at once
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP answers that may be better later


class DownloadError(UserError):
    """A file cannot be had from its address; the message names both."""


@dataclass(frozen=True)
class Client:
    """Fetches over HTTP(S), patiently.

    Args:
        tries: attempts before giving up.
        timeout: seconds without an answer that end an attempt.
        pause: seconds before the second attempt, doubled each time.
    """

    tries: int = 5
    timeout: float = 60.0
    pause: float = 1.0

    def json(self, url: str) -> Any:
        """The JSON document at ``url``; errors as in :meth:`download`."""
        try:
            return json.loads(self._patiently(url, lambda: self._open(url).read()))
        except ValueError as error:
            raise DownloadError(f"{url} does not answer with JSON: {error}") from error

    def download(self, url: str, path: str | Path) -> bool:
        """Fetch ``url`` into ``path``; what an earlier, interrupted call fetched is not fetched again.

        Until it is complete the content lies in ``<name>.part`` beside ``path``.

        Returns:
            False if ``path`` was there already.

        Raises:
            DownloadError: refused, not found, or still failing after the last attempt.
        """
        path = Path(path)
        if path.exists():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _Part(path)
        self._patiently(url, lambda: self._fetch(url, part))
        part.finish()
        return True

    def _patiently(self, url: str, attempt: Callable[[], Any]) -> Any:
        for number in range(1, self.tries + 1):
            try:
                return attempt()
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code} {error.reason}"
                if error.code not in _TRY_AGAIN:
                    raise DownloadError(f"{url}: {reason}") from error
            except (OSError, http.client.HTTPException) as error:  # no connection, or one that broke
                reason = str(getattr(error, "reason", error)) or type(error).__name__
            if number < self.tries:
                time.sleep(self.pause * 2 ** (number - 1))
        raise DownloadError(f"{url}: {reason}; gave up after {self.tries} attempts, run again to go on")

    def _open(self, url: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        request = urllib.request.Request(url, headers={"User-Agent": "sam3-data-preparation", **(headers or {})})
        return urllib.request.urlopen(request, timeout=self.timeout)

    def _fetch(self, url: str, part: "_Part") -> None:
        try:
            answer = self._open(url, part.resume_headers())
        except urllib.error.HTTPError as error:
            if error.code != 416:  # the part is not a beginning of what is there now
                raise
            part.forget()
            answer = self._open(url)
        with answer:
            if answer.status != 206:
                part.forget()
            part.remember(answer.headers.get("ETag") or answer.headers.get("Last-Modified"))
            with open(part.data, "ab") as file:
                while block := answer.read(_BLOCK):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            expected = answer.headers.get("Content-Length")
            if expected is not None and answer.length:  # bytes that were announced and did not come
                raise http.client.IncompleteRead(b"", answer.length)


class _Part:
    """The beginning of a file, and which version of it that is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.with_name(path.name + ".part")
        self.version_file = path.with_name(path.name + ".part.json")

    def resume_headers(self) -> dict[str, str]:
        """Ask for the rest, provided that the file is still the one we began with."""
        if not (self.data.exists() and self.data.stat().st_size and self.version_file.exists()):
            return {}
        version = read_json(self.version_file)["version"]
        return {"Range": f"bytes={self.data.stat().st_size}-", "If-Range": version}

    def remember(self, version: str | None) -> None:
        if version is None or version.startswith("W/"):  # a weak tag does not promise equal bytes
            self.version_file.unlink(missing_ok=True)
        else:
            write_json(self.version_file, {"version": version})

    def forget(self) -> None:
        self.data.unlink(missing_ok=True)
        self.version_file.unlink(missing_ok=True)

    def finish(self) -> None:
        os.replace(self.data, self.path)
        self.version_file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Outcome:
    """What became of a list of jobs."""

    done: int
    already_there: int
    failed: dict[str, str]  # name -> reason

    def report(self, what: str) -> str:
        """One line; :meth:`require_success` names the failures."""
        return f"{what}: {self.done} new, {self.already_there} already there, {len(self.failed)} failed"

    def require_success(self, remedy: str) -> None:
        """
        Raises:
            DownloadError: something failed; the first ones are named with their reasons.
        """
        if self.failed:
            first = "\n".join(f"  {name}: {reason}" for name, reason in list(self.failed.items())[:10])
            more = f"\n  and {len(self.failed) - 10} more" if len(self.failed) > 10 else ""
            raise DownloadError(f"{len(self.failed)} files could not be prepared:\n{first}{more}\n{remedy}")


def in_parallel(jobs: Iterable[str], work: Callable[[str], bool], *, workers: int, title: str) -> Outcome:
    """Run ``work(name)`` for each of ``jobs`` in threads, with a progress bar; one failure stops no other.

    Args:
        work: returns whether something new was made; a :class:`~sam3.errors.UserError` or ``OSError`` is a failure.
    """
    names = list(dict.fromkeys(jobs))
    counts, failed = {True: 0, False: 0}, {}

    def attempt(name: str) -> bool | str:
        try:
            return work(name)
        except (UserError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for name, result in zip(names, tqdm(pool.map(attempt, names), total=len(names), desc=title), strict=True):
            if isinstance(result, str):
                failed[name] = result
            else:
                counts[result] += 1
    return Outcome(done=counts[True], already_there=counts[False], failed=failed)
