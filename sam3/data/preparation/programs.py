"""Programs that others wrote for their own services: called, never imitated."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from sam3.errors import UserError

# program -> how to get it
_SOURCES = {
    "yt-dlp": "pip install yt-dlp",
    "ffmpeg": "install it from your system's packages, for example apt-get install ffmpeg",
    "gsutil": "pip install gsutil",
    "ego4d": "pip install ego4d, then ask for access and credentials at https://ego4d-data.org",
}


class ProgramError(UserError):
    """A program is missing or failed."""


def require_program(name: str) -> None:
    """
    Raises:
        ProgramError: the program is not on the search path; says how to get it.
    """
    if shutil.which(name) is None:
        raise ProgramError(f"this step needs the program {name!r}, which was not found: {_SOURCES[name]}")


def run_program(words: Sequence[str | Path], *, timeout: float | None = None) -> None:
    """Run a program to its end.

    Args:
        timeout: seconds; longer is a failure.

    Raises:
        ProgramError: missing, failed or too slow; the message holds the end of what it said.
    """
    require_program(str(words[0]))
    try:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{words[0]} was stopped after {timeout:.0f} seconds") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise ProgramError(f"{words[0]} ended with exit code {done.returncode}: {' / '.join(said)}")


def whole_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let a program write beside ``path``; the result takes its name when the program has ended well.

    Raises:
        ProgramError: it wrote nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")  # many programs go by the suffix
    partial.unlink(missing_ok=True)
    write(partial)
    if not partial.is_file():
        raise ProgramError(f"the program ended well but wrote no {partial}")
    os.replace(partial, path)


def fetch_youtube_video(
    video_id: str, path: Path, *, cookies_file: Path | None = None, pause: tuple[int, int] | None = None
) -> None:
    """A video of at most 720 lines by ``yt-dlp``.

    Args:
        pause: seconds, shortest and longest, that it waits before the download.
    """
    options: list[str | Path] = ["-f", "best[height<=720]/best", "--no-part", "--quiet", "--force-overwrites"]
    if pause:
        options += ["--sleep-interval", str(pause[0]), "--max-sleep-interval", str(pause[1])]
    if cookies_file:
        options += ["--cookies", cookies_file]
    address = f"https://www.youtube.com/watch?v={video_id}"
    whole_file(path, lambda partial: run_program(["yt-dlp", *options, "-o", partial, address]))
