"""Training images that cannot be used: another one takes the place of each, and every epoch says which they were."""

import logging
from collections import Counter

from sam3.data.loader import Loader
from sam3.errors import listed
from sam3.train import distributed

_log = logging.getLogger(__name__)


class ReplacedImages:
    """Adds up what the loaders of all processes left out.

    Args:
        loader: of this process; None where nothing is trained.
    """

    def __init__(self, loader: Loader | None) -> None:
        self.loader = loader
        self.count = 0  # in the epoch of the last report; on process 0
        self._reported: Counter[str] = Counter()

    def report(self, epoch: int) -> None:
        """Name what was replaced in epoch ``epoch``; called by all processes, process 0 speaks for them."""
        seen = Counter(self.loader.skipped)
        here, self._reported = seen - self._reported, seen
        everywhere = sum(distributed.gather_objects(here), Counter())
        self.count = everywhere.total()
        if self.count:
            _log.warning(
                "epoch %d: %d times another image took the place of one that cannot be used: %s",
                epoch + 1,
                self.count,
                listed([f"{reason} ({times} x)" for reason, times in everywhere.most_common()]),
            )
