"""Drop objects and queries (``spec/training.md`` 5.5).

An object that is dropped is still in the picture. A query that loses all its objects is therefore dropped as
well: kept as a negative, it would teach that its phrase is absent (the reference does so, trap 28).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from sam3.data.samples import Mask, Query, Sample, UnusableSample


def keep_objects(sample: Sample, keep: Sequence[bool]) -> Sample:
    """The sample without the objects whose entry of ``keep`` is false; queries point to the rest, which may be none."""
    if all(keep):
        return sample
    kept = [index for index, wanted in enumerate(keep) if wanted]
    position = {index: place for place, index in enumerate(kept)}
    queries = [
        replace(query, object_indices=tuple(position[i] for i in query.object_indices if i in position))
        for query in sample.queries
    ]
    return replace(sample, objects=sample.objects.select(kept), queries=queries)


def keep_queries(sample: Sample, queries: Sequence[Query]) -> Sample:
    """The sample with some of its queries, and with the objects they ask for.

    Raises:
        UnusableSample: no query is left.
    """
    if not queries:
        raise UnusableSample(f"{sample.file_name}: no query is left after filtering")
    wanted = {index for query in queries for index in query.object_indices}
    kept = replace(sample, queries=list(queries))
    return keep_objects(kept, [index in wanted for index in range(len(sample.objects))])


def keep_teachable(sample: Sample, keep: Sequence[bool]) -> Sample:
    """:func:`keep_objects` for objects that are there but cannot be learnt from.

    A query left without objects goes, one that loses some is no longer exhaustive; negatives stay.

    Raises:
        UnusableSample: no query is left.
    """
    kept = keep_objects(sample, keep)
    queries = []
    for before, after in zip(sample.queries, kept.queries, strict=True):
        if len(after.object_indices) == len(before.object_indices):
            queries.append(after)
        elif after.object_indices:
            queries.append(replace(after, is_exhaustive=False))
    return keep_queries(kept, queries)


@dataclass(frozen=True)
class RemoveCrowds:
    """Drop objects annotated as a crowd, which is no single instance."""

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        return keep_teachable(sample, (~sample.objects.is_crowd).tolist())


@dataclass(frozen=True)
class RemoveEmptyObjects:
    """Drop objects that cannot be seen: a box without area, or a mask without a pixel at the size of the image.

    However small, an object of which a pixel is left is kept. (The reference drops what covers less than a
    millionth of the original image times both resize factors: on a photo of 12 megapixels all objects below about
    140 pixels.)
    """

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        objects = sample.objects
        masks = [None] * len(objects) if objects.masks is None else objects.masks
        has_area = (objects.areas > 0).tolist()
        visible = [area and _has_pixel(mask) for area, mask in zip(has_area, masks, strict=True)]
        return keep_teachable(sample, visible)


def _has_pixel(mask: Mask) -> bool:
    """False for an empty mask in the size of the image; others have at least one pixel once they are decoded."""
    return not isinstance(mask, Tensor) or bool(mask.any())


@dataclass(frozen=True)
class RemoveCrowdedQueries:
    """Drop queries with more objects than the network has room for."""

    max_objects: int

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        return keep_queries(sample, [q for q in sample.queries if len(q.object_indices) <= self.max_objects])


@dataclass(frozen=True)
class SampleNegatives:
    """Keep at most ``max_negatives`` randomly chosen queries whose phrase is absent, and all positive ones.

    With many classes almost every query of an image is a negative; a few of them teach as much for less memory.
    """

    max_negatives: int

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        negatives = [index for index, query in enumerate(sample.queries) if not query.object_indices]
        dropped = set(negatives) - set(rng.sample(negatives, min(self.max_negatives, len(negatives))))
        return keep_queries(sample, [q for index, q in enumerate(sample.queries) if index not in dropped])
