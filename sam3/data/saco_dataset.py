"""SA-Co/Gold and Silver as samples to predict on: one picture with every phrase that the benchmark asks of it.

Source: spec/evaluation.md 1.1 and 8, spec/training.md 5.1. Annotations are not needed: no targets are made.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import torch

from sam3.data.image_dataset import check_size
from sam3.data.saco import SacoPair, read_pairs
from sam3.data.samples import Objects, Query, Sample
from sam3.data.transforms.compose import Transform
from sam3.errors import DataError
from sam3.io.images import image_size, open_image


@dataclass(frozen=True)
class PictureRecord:
    """One file and the pairs that ask for something in it, in the order of the annotation file."""

    file_name: str
    pairs: tuple[SacoPair, ...]


class SacoImageDataset:
    """Pictures with their phrases; the picture is read and encoded once, however many phrases it has.

    Args:
        img_folder: where the files named by the annotations lie.
        ann_file: SA-Co image file; of several annotators, any one.
        transforms: applied to every sample.

    Raises:
        DataError: the file is not usable, or none of the first pictures can be found.
    """

    def __init__(self, img_folder: str | Path, ann_file: str | Path, transforms: Transform) -> None:
        self.img_folder = Path(img_folder)
        self.ann_file = Path(ann_file)
        self.transforms = transforms
        by_file: dict[str, list[SacoPair]] = {}
        for pair in read_pairs(ann_file):
            by_file.setdefault(pair.file_name, []).append(pair)
        self.records = [PictureRecord(name, tuple(pairs)) for name, pairs in by_file.items()]
        first = [record.file_name for record in self.records[:32]]
        if first and not any((self.img_folder / name).is_file() for name in first):
            raise DataError(
                f"none of the first {len(first)} pictures of {ann_file} (such as '{first[0]}') lies in '{img_folder}'"
            )

    def __len__(self) -> int:
        return len(self.records)

    @property
    def num_queries(self) -> int:
        """(picture, phrase) pairs."""
        return sum(len(record.pairs) for record in self.records)

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """The transformed picture ``index``.

        Raises:
            DataError: the picture cannot be read, or has another size than annotated. A benchmark leaves nothing out.
        """
        record = self.records[index]
        path = self.img_folder / record.file_name
        image = open_image(path)
        for pair in record.pairs:
            check_size(path, image_size(image), (pair.height, pair.width), self.ann_file)
        sample = Sample(
            image=image,
            objects=Objects(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.bool), None),
            queries=[Query(pair.phrase, pair.category_id, (), pair_id=pair.pair_id) for pair in record.pairs],
            image_id=record.pairs[0].pair_id,
            file_name=record.file_name,
            original_size=image_size(image),
        )
        return self.transforms(sample, random.Random(index))
