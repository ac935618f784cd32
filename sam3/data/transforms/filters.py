"""Drop objects and queries (``spec/training.md`` 5.5).

A query that loses all its objects stays: it becomes a negative, still exhaustive (trap 28).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sam3.data.samples import Query, Sample, UnusableSample


def keep_objects(sample: Sample, keep: Sequence[bool]) -> Sample:
    """The sample without the objects whose entry of ``keep`` is false; queries point to the rest."""
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


@dataclass(frozen=True)
class RemoveCrowds:
    """Drop objects annotated as a crowd."""

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        return keep_objects(sample, (~sample.objects.is_crowd).tolist())


@dataclass(frozen=True)
class RemoveEmptyObjects:
    """Drop objects whose box has (almost) no area; ``min_area`` is in the unit of ``Objects.areas``."""

    min_area: float = 1e-6

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        return keep_objects(sample, (sample.objects.areas >= self.min_area).tolist())


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
