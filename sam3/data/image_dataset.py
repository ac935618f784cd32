"""COCO folder -> samples: open the image, scale its annotations, apply the transforms (``spec/training.md`` 5.3)."""

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from sam3.data.coco import BoxRule, ImageRecord, read_coco, records_of
from sam3.data.negatives import HeldOutPhrases, Negatives
from sam3.data.prompts import Prompts, check_class_name, phrases_of_categories
from sam3.data.samples import Objects, Query, Sample, UnusableSample
from sam3.data.transforms.compose import Transform
from sam3.errors import DataError
from sam3.io.images import image_size, open_image
from sam3.ops.boxes import clip_boxes

_log = logging.getLogger(__name__)

_MAX_SKIPS = 100  # unusable images in a row


class ImageDataset:
    """Images with their queries; one item is one image and one chunk of categories.

    A sample depends on ``(seed, epoch, index)`` only, not on the process that makes it nor on what was made
    before, so any number of workers gives the same data and training can resume at any step.

    Args:
        img_folder: where the files named by the annotations lie.
        ann_file: COCO annotation file.
        transforms: applied to every sample; see :mod:`sam3.data.transforms.presets`.
        training: an image that cannot be used is replaced by the next one that can, and the sample says so in
            ``skipped``. Otherwise it is an error: a measurement must not count an image twice.
        prompts: text of each category; see :func:`sam3.data.prompts.phrases_of_categories`.
        class_name: if given, the file must have this single category.
        allow_name_mismatch: the single category may have another name.
        include_negatives: also ask for the categories an image does not show.
        category_chunk_size: categories asked at once; ``None`` = all.
        negatives: phrases from outside the data set, asked as absent; ``None`` = none. Their category ids are below
            zero, see ``extra``. In validation they are the same every time.
        load_segmentation: give masks too.
        limit_ids: use only this many records, a fixed random choice.
        seed: of the transforms.
        variants: so many different versions the transforms make of an image; they come again in later epochs. None =
            another one every epoch.
        box_rule: see :func:`sam3.data.coco.records_of`.

    Raises:
        DataError: the annotations are not usable, or none of the images can be found.
    """

    def __init__(
        self,
        img_folder: str | Path,
        ann_file: str | Path,
        transforms: Transform,
        *,
        training: bool = False,
        prompts: Prompts = None,
        class_name: str | None = None,
        allow_name_mismatch: bool = False,
        include_negatives: bool = True,
        category_chunk_size: int | None = None,
        negatives: Negatives | HeldOutPhrases | None = None,
        load_segmentation: bool = True,
        limit_ids: int | None = None,
        seed: int = 0,
        variants: int | None = None,
        box_rule: BoxRule = "clip",
    ) -> None:
        self.img_folder = Path(img_folder)
        self.ann_file = Path(ann_file)
        self.transforms = transforms
        self.training = training
        self.load_segmentation = load_segmentation
        self.seed = seed
        self.variants = variants
        self.epoch = 0
        coco = read_coco(ann_file)
        self.categories = coco.categories
        if class_name is not None:
            check_class_name(coco.categories, class_name, allow_mismatch=allow_name_mismatch)
        records = records_of(
            coco,
            prompts=prompts,
            include_negatives=include_negatives,
            category_chunk_size=category_chunk_size,
            with_masks=load_segmentation,
            box_rule=box_rule,
        )
        asked = [record for record in records if record.queries]
        if len(asked) < len(records):
            _log.info(
                "%s: %d of %d records ask for nothing and are left out",
                ann_file,
                len(records) - len(asked),
                len(records),
            )
        self.records = [asked[index] for index in limited_indices(len(asked), limit_ids)]
        self.phrases = phrases_of_categories(coco.categories, prompts)  # category id -> what asks for it
        names = dict.fromkeys([*self.phrases.values(), *coco.categories.values()])
        self.extra = None if negatives is None else negatives.source(list(names))
        self.first_of_image: dict[int, int] = {}  # image id -> index of its first record
        for index, record in enumerate(self.records):
            self.first_of_image.setdefault(record.image_id, index)
        self._check_images_exist()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        """The sample of the current epoch."""
        return self.sample(index, self.epoch)

    @property
    def num_images(self) -> int:
        """Different images, however many chunks each has."""
        return len({record.image_id for record in self.records})

    @property
    def num_queries(self) -> int:
        return sum(len(record.queries) for record in self.records)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the random numbers of the next samples."""
        self.epoch = epoch

    def sample(self, index: int, epoch: int) -> Sample:
        """The transformed sample ``index`` as epoch ``epoch`` sees it."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of a dataset of {len(self)}")
        index %= len(self)
        if not self.training:
            return self._transformed(index, index, epoch)
        reasons: list[str] = []
        for offset in range(min(len(self), _MAX_SKIPS)):
            try:
                sample = self._transformed((index + offset) % len(self), index, epoch)
                return replace(sample, skipped=tuple(reasons))
            except UnusableSample as error:
                reasons.append(str(error))
        raise DataError(f"{self.ann_file}: {len(reasons)} samples in a row cannot be used. The first: {reasons[0]}")

    def raw_sample(self, index: int) -> Sample:
        """The sample before any transform.

        Raises:
            UnusableSample: the image cannot be read.
            DataError: its size is not the one the annotations were made for.
        """
        record = self.records[index]
        path = self.img_folder / record.file_name
        try:
            image = open_image(path)
        except DataError as error:
            raise UnusableSample(str(error)) from error
        check_size(path, image_size(image), (record.height, record.width), self.ann_file)
        return Sample(
            image=image,
            objects=_objects_of(record, with_masks=self.load_segmentation),
            queries=[Query(query.phrase, query.category_id, query.object_indices) for query in record.queries],
            image_id=record.image_id,
            file_name=record.file_name,
            original_size=(record.height, record.width),
        )

    def _transformed(self, index: int, seed_index: int, epoch: int) -> Sample:
        variant = epoch if self.variants is None else epoch % self.variants
        rng = random.Random(f"{self.seed}/{variant}/{seed_index}")
        sample = self.transforms(self.raw_sample(index), rng)
        extra = self.extra_queries(index, f"{self.seed}/{epoch}/{seed_index}" if self.training else f"{self.seed}")
        return replace(sample, queries=[*sample.queries, *extra]) if extra else sample

    def extra_queries(self, index: int, key: str) -> list[Query]:
        """Phrases from outside the data set, as absent; drawn apart from the transforms, so that they change nothing
        else. In validation only the first record of an image has them."""
        record = self.records[index]
        if self.extra is None or (not self.training and self.first_of_image[record.image_id] != index):
            return []
        shown = [query.phrase for query in record.queries if query.object_indices]
        phrases = self.extra.draw(shown, random.Random(f"{key}/{record.image_id}"))
        return [Query(phrase, self.extra.category_id(phrase), ()) for phrase in phrases]

    def asked_pairs(self) -> list[tuple[int, int]]:
        """(image id, category id) of all that validation asks; phrases from outside the data set have ids below 0."""
        return [
            (record.image_id, query.category_id)
            for index, record in enumerate(self.records)
            for query in (*record.queries, *self.extra_queries(index, f"{self.seed}"))
        ]

    def _check_images_exist(self) -> None:
        """A wrong folder is found at the start, not after a hundred warnings."""
        first = self.records[:32]
        if first and not any((self.img_folder / record.file_name).is_file() for record in first):
            raise DataError(
                f"none of the first {len(first)} images of {self.ann_file} (such as '{first[0].file_name}') "
                f"lies in the image folder '{self.img_folder}'"
                + ("" if self.img_folder.is_dir() else ", which does not exist")
            )


def check_size(path: Path, size: tuple[int, int], expected: tuple[int, int], ann_file: Path) -> None:
    """Both sizes are (height, width).

    Raises:
        DataError: they differ.
    """
    if size == expected:
        return
    hint = "Boxes and masks would not fit; correct the annotation file or restore the image it was made for"
    if size == expected[::-1]:
        hint = (
            "Width and height are swapped: the annotations ignore the EXIF orientation of the file. "
            "Annotate the upright picture, or remove the EXIF orientation"
        )
    raise DataError(
        f"image '{path}' has {size[0]} x {size[1]} pixels (height x width), "
        f"but {ann_file} says {expected[0]} x {expected[1]}. {hint}"
    )


def limited_indices(count: int, limit: int | None) -> Sequence[int]:
    """``limit`` of ``count`` indices, the same choice every time; all of them in order without a limit."""
    if limit is None:
        return range(count)
    if limit < 1:
        raise DataError(f"limit_ids must be at least 1 or null, got {limit}")
    indices = list(range(count))
    random.Random(count).shuffle(indices)
    return indices[:limit]


def _objects_of(record: ImageRecord, *, with_masks: bool) -> Objects:
    boxes = torch.tensor([item.box for item in record.objects], dtype=torch.float32).reshape(-1, 4)
    return Objects(
        boxes=clip_boxes(boxes, record.height, record.width),
        areas=torch.tensor([item.area for item in record.objects], dtype=torch.float32),
        is_crowd=torch.tensor([item.is_crowd for item in record.objects], dtype=torch.bool),
        masks=[item.mask for item in record.objects] if with_masks else None,
    )
