"""Data part of the training parity program: loaders, transforms and collation against the golden files.

Reads ``transforms.{json,safetensors}``, ``dataset_behaviour.json`` and ``coco_toy/`` of one folder. Every row is named
after its fixture. Structure (ids, phrases, indices, sizes, masks) must be equal: the error is the number of unequal
entries. Values are within 1e-5 relative, image pixels within one byte.
"""

import ast
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor

from sam3.data.coco import ImageRecord, read_coco, records_of
from sam3.data.collate import collate, split_batch
from sam3.data.image_dataset import limited_indices
from sam3.data.samples import Query, Sample
from sam3.errors import DataError
from sam3.structures import Batch
from tests.parity.report import Row, rows_or_miss
from tests.parity.training_optim import read_json
from tests.parity.training_transforms import (
    APPLY,
    BYTE_LIMIT,
    VALUE_LIMIT,
    Golden,
    byte_error,
    check_jitter,
    check_jitter_statistics,
    check_sample,
    check_scales,
    compare,
    exact_row,
    relative,
    unequal,
)

_LATER = "belongs to the evaluation and video loaders, which are not built yet"
_UNUSED = "no shipped pipeline uses it, so it does not exist here"
NOT_COVERED: dict[str, str] = {
    "saco_*": _LATER,
    "filter_zero_box.*": _UNUSED,
    "filter_text.*": _UNUSED,
    "keep_max.*": _UNUSED,
    "resize_short_*": "only square resizing exists here; " + _UNUSED,
    "random_resize_max_size": "only square resizing exists here, which ignores a maximal size",
    "size_with_aspect_ratio": "only square resizing exists here",
    "crop.*": _UNUSED,
    "crop_recompute.*": "known defect 22 (boxes one pixel short); " + _UNUSED,
    "center_crop*": _UNUSED,
    "recompute_boxes.*": _UNUSED,
    "instance_to_semantic.*": "the semantic loss takes the union of instance masks itself; " + _UNUSED,
    "add_prefix.*": "prompts are given as whole texts; " + _UNUSED,
    "text_to_visual_then_noise.*": "known defect 21 (IndexError); here both work together and are tested",
    "max_ann_per_img_*": "known defect 19 (another image in its place); the query is left out",
    "all_datapoints_rejected": "known defect 19; here a DataError with the first reason, tested",
    "point prompts within fixtures": "no shipped pipeline makes any",
    "repeated boxes and image ids within collate.*": "no loss reads copies of boxes; our image ids stay in training",
    "resize_without_decode_rle": "known defect 20 (KeyError); here resizing decodes masks, tested",
}
"""Fixtures that are left out (Unix patterns of their names), and why."""


def check(directory: str | Path) -> list[Row]:
    """All rows of the data part; fixtures of :data:`NOT_COVERED` are left out, unknown ones are a miss."""
    golden = Golden.read(Path(directory))
    parts = [
        (golden.loaders, _check_loader),
        (golden.transforms, _check_transform),
        (golden.behaviour, _check_behaviour),
    ]
    rows: list[Row] = []
    with _without_warnings():
        for fixtures, check_one in parts:
            for name, expected in fixtures.items():
                if not is_left_out(name):
                    arguments = (golden, name, expected)
                    rows += rows_or_miss(name, lambda arguments=arguments, check_one=check_one: check_one(*arguments))
    return rows


def is_left_out(name: str) -> bool:
    """Whether a fixture is one of :data:`NOT_COVERED`."""
    return any(fnmatchcase(name, pattern) for pattern in NOT_COVERED)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """The toy data set is broken on purpose and read many times; its warnings have tests of their own."""
    logger = logging.getLogger("sam3.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


# Loaders


def _check_loader(golden: Golden, name: str, expected: dict[str, Any]) -> list[Row]:
    if name == "errors":
        return [exact_row("errors: too_few_prompts is refused", not _refuses_too_few_prompts(golden))]
    options = dict(expected["options"])
    if "prompts" in options:
        options["prompts"] = ast.literal_eval(options["prompts"])
    records = records_of(read_coco(golden.ann_file), box_rule="reference", **options)
    facts = [_loader_facts(point) for point in expected["datapoints"]]
    boxes = [[*note["bbox"], note["area"]] for point in expected["datapoints"] for note in point["annotations"]]
    return [
        exact_row(f"{name}: records", unequal([_record_facts(record) for record in records], facts)),
        Row(f"{name}: boxes and areas", relative(_normalised_boxes(records), boxes), VALUE_LIMIT),
    ]


def _refuses_too_few_prompts(golden: Golden) -> bool:
    first = next(iter(read_json(golden.ann_file)["categories"]))
    try:
        records_of(read_coco(golden.ann_file), prompts=[{"id": first["id"], "name": first["name"]}])
    except DataError:
        return True
    return False


def _record_facts(record: ImageRecord) -> list[Any]:
    queries = [[query.category_id, query.phrase, list(query.object_indices)] for query in record.queries]
    masks = [None if item.mask is None else dict(item.mask) for item in record.objects]
    return [record.image_id, record.file_name, queries, [int(item.is_crowd) for item in record.objects], masks]


def _loader_facts(point: dict[str, Any]) -> list[Any]:
    image, notes = point["images"][0], point["annotations"]
    queries = [[q["original_cat_id"], q["query_text"], q["object_ids_output"]] for q in point["queries"]]
    masks = [note["segmentation"] for note in notes]
    return [image["coco_img_id"], image["file_name"], queries, [note["is_crowd"] for note in notes], masks]


def _normalised_boxes(records: Sequence[ImageRecord]) -> list[list[float]]:
    """Normalised xywh and area, the unit of the golden file."""
    return [
        [
            left / record.width,
            top / record.height,
            (right - left) / record.width,
            (bottom - top) / record.height,
            item.area,
        ]
        for record in records
        for item in record.objects
        for left, top, right, bottom in [item.box]
    ]


# Transforms


def _check_transform(golden: Golden, name: str, expected: Any) -> list[Row]:
    if name in ("raw_train", "raw_val"):
        dataset = golden.dataset(training=name == "raw_train")
        return [row for i, point in enumerate(expected) for row in compare(f"{name}.{i}", dataset[i], point, golden)]
    if name == "random_resize_scales":
        return check_scales(expected)
    if name == "noise_box":
        return [check_jitter(golden, case, values) for case, values in expected.items()]
    if name == "noise_box_stats":
        return check_jitter_statistics(expected)
    if name == "collate.chunking":
        return [_check_split(golden, expected)]
    if name.startswith("collate."):
        return _check_collate(golden, name, expected)
    return check_sample(golden, name, expected)


# Collation


def _samples(golden: Golden, pipeline: str, count: int, **options: Any) -> list[Sample]:
    """The first samples of a pipeline, made as its own fixtures are; their seed is their number."""
    dataset = golden.dataset(**options)
    known = {name: entry for name, entry in golden.transforms.items() if name.startswith(f"{pipeline}.")}
    if not known:
        raise LookupError(f"no fixture {pipeline}.* tells the sizes of the pipeline")
    example = next(iter(known.values()))
    entries = [
        known.get(f"{pipeline}.dp{index}", example | {"datapoint_index": index, "seed": index})
        for index in range(count)
    ]
    return [APPLY[f"{pipeline}."](golden, dataset.raw_sample(entry["datapoint_index"]), entry) for entry in entries]


def _collate_samples(golden: Golden, name: str, count: int, stage: dict[str, Tensor]) -> list[Sample]:
    """What was collated follows from the name: training or validation samples, some or only those without objects."""
    if "train" in name:
        return _samples(golden, "train_pipeline", count, load_segmentation="target.segments" in stage)
    if "negative_only" in name:
        samples = _samples(golden, "val_pipeline", len(golden.dataset()))
        return [sample for sample in samples if not len(sample.objects)][:count]
    samples = _samples(golden, "val_pipeline", count)
    numbers = iter(range(stage["input.img_ids"].numel()))
    return [replace(s, queries=[_with_examples(query, stage, next(numbers)) for query in s.queries]) for s in samples]


def _with_examples(query: Query, stage: dict[str, Tensor], number: int) -> Query:
    """The query with the example boxes of the collated query of that number."""
    given = ~stage["input.input_boxes_mask"][number].bool()
    boxes, labels = (stage[f"input.input_boxes{suffix}"][:, number][given] for suffix in ("", "_label"))
    return replace(query, input_boxes=boxes, input_box_labels=labels)


def _check_collate(golden: Golden, name: str, expected: dict[str, Any]) -> list[Row]:
    tensors = {
        key.removeprefix(f"{name}."): value for key, value in golden.tensors.items() if key.startswith(f"{name}.")
    }
    stage = {key.removeprefix("s0."): value for key, value in tensors.items() if key.startswith("s0.")}
    batch = collate(_collate_samples(golden, name, expected["n_raw_images"], stage))
    ours = _golden_names(batch)
    exact = {key: value for key, value in stage.items() if key in ours and not value.is_floating_point()}
    close = {key: value for key, value in stage.items() if key in ours and value.is_floating_point()}
    facts = [batch.phrases, *(ours[key].int().tolist() for key in exact)]
    rows = [
        exact_row(
            f"{name}: integers",
            unequal(facts, [expected["find_text_batch"], *(v.int().tolist() for v in exact.values())]),
        ),
        Row(
            f"{name}: boxes", max((relative(ours[key], value) for key, value in close.items()), default=0), VALUE_LIMIT
        ),
    ]
    if "img_batch" in tensors:
        rows.append(Row(f"{name}: image bytes", byte_error(batch.images, tensors["img_batch"]), BYTE_LIMIT))
    return rows


def _golden_names(batch: Batch) -> dict[str, Tensor]:
    """Our tensors in the layout of ``spec/training.md`` 5.6. Not there: point prompts of the reference's width,
    repeated boxes, semantic masks, and image ids, which the reference hides in training."""
    prompt, targets = batch.prompt, batch.targets
    is_any = len(targets.boxes) > 0
    named = {
        "input.img_ids": batch.image_index,
        "input.text_ids": batch.phrase_index,
        "input.input_boxes": prompt.boxes.transpose(0, 1),
        "input.input_boxes_label": prompt.box_labels.transpose(0, 1),
        "input.input_boxes_mask": prompt.box_mask,
        "target.num_boxes": targets.num_boxes,
        "target.boxes": targets.boxes.flatten() if not is_any else targets.boxes,
        "target.boxes_padded": targets.boxes_padded,
        "target.object_ids": targets.object_ids,
        "target.object_ids_padded": targets.object_ids_padded,
        "target.is_exhaustive": targets.is_exhaustive,
        "meta.original_category_id": batch.origin.category_ids,
        "meta.original_size": batch.origin.original_sizes,
    }
    if targets.masks is not None:
        named["target.segments"] = targets.masks if is_any else targets.masks.flatten()
        named["target.is_valid_segment"] = targets.mask_is_valid
    return named


def _check_split(golden: Golden, expected: dict[str, Any]) -> Row:
    counts = expected["images_per_chunk"]
    parts = split_batch(collate(_samples(golden, "train_pipeline", sum(counts))), expected["num_chunks"])
    return exact_row("collate.chunking: images of each part", unequal([len(part) for part in parts], counts))


# Behaviour of the data set


def _check_behaviour(golden: Golden, name: str, expected: Any) -> list[Row]:
    if name == "limit_ids":
        rows = []
        for key, indices in expected.items():
            count, limit = map(int, re.fullmatch(r"n=(\d+),limit=(\d+)", key).groups())
            rows.append(exact_row(f"limit_ids: {key}", unequal(list(limited_indices(count, limit)), indices)))
        return rows
    loader = {
        "no_negatives_queries_per_index": "no_negatives",
        "no_negatives_chunk1_queries_per_index": "chunk1_no_negatives",
    }
    if name not in loader:
        return [Row(f"{name}: unknown fixture", float("nan"), 0)]
    # The reference fills the place of a record without queries with a later one (known defect 19); ours leaves it out.
    points = golden.loaders[loader[name]]["datapoints"]
    kept = [phrases for point, phrases in zip(points, expected, strict=True) if point["queries"]]
    dataset = golden.dataset(**golden.loaders[loader[name]]["options"])
    phrases = [[query.phrase for query in dataset[index].queries] for index in range(len(dataset))]
    return [exact_row(f"{name}: queries of the records that ask for something", unequal(phrases, kept))]
