"""What a run over images or videos did: counts, failures, what is said of them, and the exit code."""

import errno
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sam3.errors import INTERRUPTED, DataError
from sam3.io.files import write_json

FAILURES = "failures.json"
MAX_SAID = 10  # failures that are printed
# Errors of the disk, not of an image: every later image would meet them too.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE}


@dataclass
class Summary:
    """What a run did."""

    total: int  # images or videos
    processed: int = 0
    skipped: int = 0  # finished by an earlier run
    objects: Counter[str] = field(default_factory=Counter)  # label -> number, in all that is processed or skipped
    failures: dict[str, str] = field(default_factory=dict)  # path -> reason
    seconds: float = 0.0

    def exit_code(self, *, is_strict: bool) -> int:
        """0, also when some failed (1 if ``is_strict``); 2 when all did."""
        if len(self.failures) == self.total:
            return 2
        return 1 if self.failures and is_strict else 0

    def write_failures(self, root: Path, item: str) -> None:
        """``failures.json`` lists this run's failures, each an ``item``; without any there is no such file."""
        if self.failures:
            write_json(root / FAILURES, [{item: path, "reason": why} for path, why in self.failures.items()], indent=1)
        else:
            (root / FAILURES).unlink(missing_ok=True)

    def say(self, output: Path, option: str) -> None:
        """Print it; ``option`` is the threshold that finds more when it is lower."""
        counts = ", ".join(f"{label} {count}" for label, count in self.objects.most_common())
        print(
            f"{self.work()}, {self.skipped} skipped (finished earlier), {len(self.failures)} failed; "
            f"{self.objects.total()} objects{f' ({counts})' if counts else ''} in {self.seconds:.1f} s"
        )
        if self.processed and not self.objects:
            print(f"note: nothing was found; is the phrase the one of the training, would a lower {option} do?")
        print(f"results: {output}")
        for path, reason in list(self.failures.items())[:MAX_SAID]:
            print(f"warning: not processed: {reason if path in reason else f'{path}: {reason}'}")
        if len(self.failures) > MAX_SAID:
            print(f"warning: {len(self.failures) - MAX_SAID} more in {output / FAILURES}")

    def work(self) -> str:
        """What was done in this run."""
        return f"{self.processed} processed"


def say_interrupted(items: str) -> int:
    """After Ctrl-C: what becomes of the ``items``; gives the exit code."""
    print(f"interrupted; finished {items} are kept, the same command goes on with the rest", file=sys.stderr)
    return INTERRUPTED


def raise_if_disk_error(error: Exception, root: Path, items: str) -> None:
    """End the run where every later file would fail as well; the finished ``items`` are kept.

    Raises:
        DataError: the disk is full, or may not be written.
    """
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        raise DataError(
            f"cannot write results to {root}: {error}; finished {items} are kept, run again to go on"
        ) from error
