"""Comparing transforms with their golden fixtures: what each fixture did, and how far ours is from it."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sam3.data.image_dataset import ImageDataset
from sam3.data.samples import Objects, Query, Sample, UnusableSample
from sam3.data.transforms.compose import Compose
from sam3.data.transforms.filters import (
    RemoveCrowdedQueries,
    RemoveCrowds,
    RemoveEmptyObjects,
    keep_objects,
    keep_queries,
)
from sam3.data.transforms.geometric import (
    RandomResize,
    decode_masks,
    horizontal_flip,
    normalize,
    pad,
    resize,
    resize_scales,
)
from sam3.data.transforms.presets import finetune, square_eval
from sam3.data.transforms.prompts import JitterInputBoxes, TextToVisual, jitter_boxes
from tests.parity.report import Row
from tests.parity.training_optim import has_json, read_json

VALUE_LIMIT = 1e-5  # relative
BYTE_LIMIT = 1.0 + 1e-3  # of 255; the last digits of a normalised float32 are not a byte

_HALF = (0.5, 0.5, 0.5)  # mean and deviation of every shipped pipeline


@dataclass(frozen=True)
class Golden:
    """The files of one folder; what is absent is empty."""

    directory: Path
    transforms: dict[str, Any]
    tensors: dict[str, Tensor]
    loaders: dict[str, Any]
    behaviour: dict[str, Any]

    @classmethod
    def read(cls, directory: Path) -> "Golden":
        tensors = directory / "transforms.safetensors"
        return cls(
            directory=directory,
            transforms=_read_if_there(directory / "transforms.json"),
            tensors=load_file(tensors) if tensors.exists() else {},
            loaders=_read_if_there(directory / "coco_toy" / "expected_loaders.json"),
            behaviour=_read_if_there(directory / "dataset_behaviour.json"),
        )

    @property
    def ann_file(self) -> Path:
        return self.directory / "coco_toy" / "annotations.json"

    def dataset(self, transforms: Callable = lambda sample, rng: sample, **options: Any) -> ImageDataset:
        images = self.directory / "coco_toy" / "images"
        return ImageDataset(images, self.ann_file, transforms, box_rule="reference", **options)


def check_sample(golden: Golden, name: str, expected: dict[str, Any]) -> list[Row]:
    """A fixture that is one data point before and after one transform or pipeline."""
    apply = next((apply for prefix, apply in APPLY.items() if name.startswith(prefix)), None)
    if apply is None:
        return [Row(f"{name}: unknown fixture", float("nan"), 0)]
    sample = golden.dataset().raw_sample(expected["datapoint_index"])
    if "error" in expected:
        return [exact_row(f"{name}: is refused", not refuses(lambda: apply(golden, sample, expected)))]
    result = expected["result"]
    if name.startswith(_WITH_EXAMPLES):
        sample, result = _with_examples(golden, sample, expected)
    return compare(name, apply(golden, sample, expected), result, golden)


def _resize(golden: Golden, sample: Sample, expected: dict[str, Any]) -> Sample:
    return resize(sample, *expected["result"]["images"][0]["size_hw"])


def _pad(golden: Golden, sample: Sample, expected: dict[str, Any]) -> Sample:
    left, top = _border(golden, sample, expected)
    height, width = expected["result"]["images"][0]["size_hw"]
    return pad(sample, left=left, top=top, right=width - sample.size[1] - left, bottom=height - sample.size[0] - top)


def _border(golden: Golden, sample: Sample, expected: dict[str, Any]) -> tuple[int, int]:
    """Left and top border of a padding. They are not written down: the picture lies where its pixels are."""
    padded = golden.tensors[expected["result"]["images"][0]["tensor"]]
    pixels = torch.tensor(list(sample.image.tobytes()), dtype=torch.uint8).view(*sample.size, 3)
    height, width = sample.size
    for top, left in product(range(padded.shape[0] - height + 1), range(padded.shape[1] - width + 1)):
        if torch.equal(padded[top : top + height, left : left + width], pixels):
            return left, top
    raise LookupError("the picture is not in the padded one")


_WITH_EXAMPLES = ("resize_square_", "pad", "hflip.", "totensor_normalize.")


def _with_examples(golden: Golden, sample: Sample, expected: dict[str, Any]) -> tuple[Sample, dict[str, Any]]:
    """The sample with the example boxes that were given, and what is expected of it.

    The boxes before a transform are not written down, but a padding of the same picture only shifts them. Without
    such a fixture they are unknown, and nothing is expected of them.
    """
    index, result = expected["datapoint_index"], expected["result"]
    if all(query["input_bbox"] is None for query in result["queries"]):
        return sample, result
    for name, padding in golden.transforms.items():
        if name.startswith("pad") and padding["datapoint_index"] == index:
            left, top = _border(golden, sample, padding)
            queries = [
                replace(
                    query,
                    input_boxes=_input_boxes(entry) - torch.tensor([left, top, left, top]),
                    input_box_labels=_input_labels(entry),
                )
                for query, entry in zip(sample.queries, padding["result"]["queries"], strict=True)
            ]
            return replace(sample, queries=queries), result
    without = [query | {"input_bbox": None, "input_bbox_label": None} for query in result["queries"]]
    return sample, result | {"queries": without}


def _train_pipeline(golden: Golden, sample: Sample, expected: dict[str, Any]) -> Sample:
    """The shipped pipeline with the fixture's own scale and canvas, and with the reference's rules of dropping."""
    sizes = tuple(int(size) for size in re.search(r"sizes=\[([\d, ]+)\]", expected["note"])[1].split(","))
    shipped = finetune(expected["result"]["images"][0]["size_hw"][0]).transforms
    others = {RandomResize: RandomResize(sizes), RemoveCrowds: _without_crowds, RemoveEmptyObjects: _without_small}
    pipeline = Compose([others.get(type(step), step) for step in shipped])
    return pipeline(sample, random.Random(expected["seed"]))


def _val_pipeline(golden: Golden, sample: Sample, expected: dict[str, Any]) -> Sample:
    return square_eval(expected["result"]["images"][0]["size_hw"][0])(sample, random.Random(0))


# The reference keeps queries whose objects were all dropped, as negatives, and drops small objects. Ours do neither.


def _without_crowds(sample: Sample, rng: random.Random) -> Sample:
    return keep_objects(sample, (~sample.objects.is_crowd).tolist())


def _without_small(sample: Sample, rng: random.Random) -> Sample:
    return keep_objects(sample, (sample.objects.areas >= 1e-6).tolist())


def _transform(transform: Callable[[Sample, random.Random], Sample]) -> Callable[[Golden, Sample, dict], Sample]:
    return lambda golden, sample, expected: transform(sample, random.Random(expected["seed"]))


APPLY: dict[str, Callable[[Golden, Sample, dict[str, Any]], Sample]] = {
    "decode_rle.": lambda golden, sample, expected: decode_masks(sample),
    "filter_crowds.": _transform(_without_crowds),
    "filter_empty.": _transform(_without_small),
    "filter_too_many.": _transform(RemoveCrowdedQueries(max_objects=1)),
    "filter_all_removed.": lambda golden, sample, expected: keep_queries(sample, []),
    "resize_square_": _resize,
    "pad": _pad,
    "hflip.": lambda golden, sample, expected: horizontal_flip(sample),
    "totensor_normalize.": lambda golden, sample, expected: normalize(sample, mean=_HALF, std=_HALF),
    "text_to_visual.": _transform(TextToVisual(probability=1.0)),
    "train_pipeline.": _train_pipeline,
    "val_pipeline.": _val_pipeline,
}


def compare(name: str, sample: Sample, expected: dict[str, Any], golden: Golden) -> list[Row]:
    image = expected["images"][0]
    structure = unequal(_sample_facts(sample), _golden_facts(expected))
    rows = [exact_row(f"{name}: structure", structure)]
    if structure:
        return rows
    boxes, areas = [entry["bbox"] for entry in image["objects"]], [entry["area"] for entry in image["objects"]]
    rows.append(Row(f"{name}: boxes", relative(sample.objects.boxes, boxes), VALUE_LIMIT))
    rows.append(Row(f"{name}: areas", relative(sample.objects.areas, areas), VALUE_LIMIT))
    given = torch.cat([_input_boxes(entry) for entry in expected["queries"]])
    if len(given):
        input_boxes = torch.cat([query.input_boxes for query in sample.queries])
        rows.append(Row(f"{name}: input boxes", relative(input_boxes, given), VALUE_LIMIT))
    masks = [
        (m, e["segment"]) for m, e in zip(sample.objects.masks, image["objects"], strict=True) if isinstance(m, Tensor)
    ]
    if masks:
        rows.append(exact_row(f"{name}: mask pixels", sum(_mask_error(mask, entry, golden) for mask, entry in masks)))
    if "tensor" in image:
        rows.append(Row(f"{name}: image bytes", byte_error(sample.image, golden.tensors[image["tensor"]]), BYTE_LIMIT))
    return rows


def _sample_facts(sample: Sample) -> list[Any]:
    masks = [m if m is None else "mask" if isinstance(m, Tensor) else "rle" for m in sample.objects.masks]
    queries = [
        [q.phrase, q.category_id, list(q.object_indices), q.is_exhaustive, q.input_box_labels.tolist()]
        for q in sample.queries
    ]
    return [list(sample.size), list(sample.original_size), queries, sample.objects.is_crowd.int().tolist(), masks]


def _golden_facts(expected: dict[str, Any]) -> list[Any]:
    image, objects = expected["images"][0], expected["images"][0]["objects"]
    masks = ["mask" if isinstance(entry["segment"], dict) else entry["segment"] for entry in objects]
    queries = [
        [
            q["query_text"],
            q["metadata"]["original_category_id"],
            q["object_ids_output"],
            q["is_exhaustive"],
            _input_labels(q).tolist(),
        ]
        for q in expected["queries"]
    ]
    original_size = expected["queries"][0]["metadata"]["original_size"]
    return [image["size_hw"], original_size, queries, [entry["is_crowd"] for entry in objects], masks]


def _input_boxes(entry: dict[str, Any]) -> Tensor:
    given = entry["input_bbox"]
    return torch.tensor([] if given is None else given["values"]).reshape(-1, 4)


def _input_labels(entry: dict[str, Any]) -> Tensor:
    return torch.tensor(entry["input_bbox_label"] or [], dtype=torch.long)


def _mask_error(mask: Tensor, entry: dict[str, Any], golden: Golden) -> int:
    if "tensor" in entry:
        return int((mask != golden.tensors[entry["tensor"]].bool()).sum())
    return abs(int(mask.sum()) - entry["sum"])


def byte_error(image: Any, expected: Tensor) -> float:
    """Largest difference in grey levels; normalised images have mean and deviation one half."""
    if isinstance(image, Tensor):
        return float((image - expected).abs().max()) * 255 / 2
    pixels = torch.tensor(list(image.tobytes())).view(image.height, image.width, 3)
    return float((pixels - expected.int()).abs().max())


def check_scales(expected: dict[str, list[int]]) -> list[Row]:
    """The empty list of a small resolution is known defect 14; ours is not empty."""
    rows = []
    for key, scales in expected.items():
        size, min_size, is_rounded = re.fullmatch(r"\((\d+), (\d+), (True|False)\)", key).groups()
        ours = resize_scales(int(size), min_size=int(min_size), stride=128 if is_rounded == "True" else None)
        error = unequal(list(ours), scales) if scales else not ours
        rows.append(exact_row(f"random_resize_scales: {key}" + ("" if scales else " is not empty"), error))
    return rows


def check_jitter(golden: Golden, case: str, expected: dict[str, Any]) -> Row:
    moved = jitter_boxes(
        golden.tensors["noise_box.boxes"],
        golden.tensors["noise_box.z"],
        size=tuple(expected["im_size_hw"]),
        std=expected["box_noise_std"],
        max_shift=expected["box_noise_max"],
        min_area=expected["min_box_area"],
    )
    return Row(f"noise_box: {case}", relative(moved, golden.tensors[f"noise_box.out.{case}"]), VALUE_LIMIT)


def check_jitter_statistics(expected: dict[str, Any]) -> list[Row]:
    """Spread of many draws; the limits are about five standard errors of the difference of two such samples."""
    count, box = expected["n"], torch.tensor(expected["box"], dtype=torch.float32)
    jitter = JitterInputBoxes(std=expected["std"], max_shift=expected["max"])
    query = Query("", 0, (), input_boxes=box.expand(count, 4), input_box_labels=torch.ones(count, dtype=torch.long))
    size = max(1008, 2 * max(expected["box"]))  # far borders, so that nothing is clipped
    moved = jitter(_blank_sample(query, size=size), random.Random(0)).queries[0].input_boxes
    shift = moved - box
    clamped = (shift.abs() >= expected["max"] - 1e-3).float().mean(0)
    return [
        Row("noise_box_stats: deviation", relative(shift.std(0), expected["sd"]), 5 / count**0.5),
        Row(
            "noise_box_stats: share at the limit",
            float((clamped - torch.tensor(expected["frac_clamped"])).abs().max()),
            3.5 / count**0.5,
        ),
    ]


def _blank_sample(query: Query, size: int) -> Sample:
    none = torch.zeros(0, 4)
    objects = Objects(boxes=none, areas=none[:, 0], is_crowd=none[:, 0].bool(), masks=[])
    return Sample(torch.zeros(3, size, size), objects, [query], 0, "", (size, size))


def exact_row(quantity: str, count: int | bool) -> Row:
    """A row that allows no unequal entry."""
    return Row(quantity, float(count), 0.0)


def refuses(action: Callable[[], Any]) -> bool:
    try:
        action()
    except UnusableSample:
        return True
    return False


def unequal(ours: Any, golden: Any) -> int:
    """Number of entries that differ between two nested lists."""
    if isinstance(ours, list) and isinstance(golden, list):
        common = sum(unequal(first, second) for first, second in zip(ours, golden, strict=False))
        return common + abs(len(ours) - len(golden))
    return int(ours != golden)


def relative(ours: Any, golden: Any) -> float:
    """Largest difference, relative to the largest golden value; NaN if the shapes differ."""
    ours, golden = torch.as_tensor(ours, dtype=torch.float64), torch.as_tensor(golden, dtype=torch.float64)
    if ours.numel() != golden.numel():
        return float("nan")
    if not golden.numel():
        return 0.0
    difference = (ours.flatten() - golden.flatten()).abs().max()
    return float(difference / golden.abs().max().clamp(min=1e-12))


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if has_json(path) else {}
