"""How large a batch can become: from the data set where it is there, else from stated assumptions."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sam3.planning.plan.stand_ins import BatchShape
from sam3.train.assembly import Datasets, build_loaders
from sam3.train.parts import build_part
from sam3.train.schema import AUTO, RunConfig

ASSUMED_OBJECTS = 8


@dataclass(frozen=True)
class DataFacts:
    """Sizes of the largest picture, and how many steps an epoch has."""

    phrases: int  # asked of it at most
    objects: int  # in it at most
    source: str  # where the numbers come from, for people
    steps_per_epoch: int | None = None  # of one process

    def shape(self, run: RunConfig) -> BatchShape:
        """The batch that takes most memory: each of its pictures the largest."""
        chunk = run.data.train.dataset.get("category_chunk_size")
        return BatchShape(
            images=batch_size(run),
            resolution=run.model.resolution,
            phrases=min(self.phrases, chunk or self.phrases),
            objects=self.objects,
            with_masks=run.model.enable_segmentation,
        )


def read_facts(
    run: RunConfig, *, phrases: int | None = None, objects: int | None = None, images: int | None = None
) -> DataFacts:
    """What is given wins, then what the training data says; one phrase and a few objects are assumed without data.

    Raises:
        DataError: the data is there but cannot be used.
    """
    dataset = run.data.train.dataset
    if Path(str(dataset.get("ann_file", ""))).is_file():
        found = _from_dataset(run)
    else:
        found = DataFacts(1, ASSUMED_OBJECTS, "assumed: there is no training data yet")
    given = [f"--{name}" for name, value in (("phrases", phrases), ("objects", objects), ("images", images)) if value]
    steps = found.steps_per_epoch
    if images is not None:
        steps = max(1, images // (batch_size(run) * processes(run)))
    return DataFacts(
        phrases or found.phrases,
        found.objects if objects is None else objects,
        ", ".join([*given, found.source, *(["batch auto: one image"] if run.data.train.batch_size == AUTO else [])]),
        steps,
    )


def batch_size(run: RunConfig) -> int:
    """Images a step; ``auto`` is planned as one, the least it can become."""
    return 1 if run.data.train.batch_size == AUTO else run.data.train.batch_size


def processes(run: RunConfig) -> int:
    """That train together."""
    return run.launcher.num_nodes * run.launcher.gpus_per_node


def _from_dataset(run: RunConfig) -> DataFacts:
    dataset: Any = build_part(run.data.train.dataset)
    split = replace(run.data.train, batch_size=batch_size(run))
    settings = replace(run, data=replace(run.data, train=split))
    loader, _ = build_loaders(settings, Datasets(train=dataset, val=None), processes(run))
    negatives, limit = run.scratch.max_negatives_per_img, run.scratch.max_ann_per_img
    phrases, objects = 1, 0
    for record in dataset.records:
        asked = [len(query.object_indices) for query in record.queries if len(query.object_indices) <= limit]
        positive = sum(count > 0 for count in asked)
        absent = len(asked) - positive
        phrases = max(phrases, positive + (absent if negatives is None else min(absent, negatives)))
        objects = max(objects, sum(asked))
    source = f"largest picture of {dataset.num_images} in {dataset.ann_file}"
    if dataset.extra is not None and dataset.extra.phrases:
        phrases += dataset.extra.per_image
    return DataFacts(phrases, objects, source, len(loader))
