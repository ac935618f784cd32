"""Several sources of training clips as one."""

from collections.abc import Mapping
from typing import Protocol

from sam3.data.clips import Clip


class ClipSource(Protocol):
    """Videos (:mod:`sam3.data.video_clips`) or stills (:mod:`sam3.data.still_clips`)."""

    categories: dict[int, str]
    num_images: int
    num_queries: int

    def __len__(self) -> int: ...

    def sample(self, index: int, epoch: int) -> Clip: ...


class JoinedClips:
    """The clips of all sources, one after the other; the loader mixes them.

    Args:
        sources: by any names; all must give clips of one length and size.
    """

    def __init__(self, sources: Mapping[str, ClipSource | None]) -> None:
        self.sources = [source for source in sources.values() if source is not None]
        self.categories = self.sources[0].categories
        self.ann_file = ", ".join(source.ann_file for source in self.sources)

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    @property
    def num_images(self) -> int:
        return sum(source.num_images for source in self.sources)

    @property
    def num_queries(self) -> int:
        return sum(source.num_queries for source in self.sources)

    def sample(self, index: int, epoch: int) -> Clip:
        for source in self.sources:
            if index < len(source):
                return source.sample(index, epoch)
            index -= len(source)
        raise IndexError(index)
