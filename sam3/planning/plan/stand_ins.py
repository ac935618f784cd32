"""A made-up batch and made-up matches: what of a training step depends on data, with stated sizes."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sam3.structures import Batch, BatchOrigin, GeometricPrompt, QueryPredictions, Targets, map_tensors
from sam3.train.matcher import Matches


@dataclass(frozen=True)
class BatchShape:
    """Sizes of the batch that is planned for."""

    images: int
    resolution: int  # pixels a side
    phrases: int  # asked of every image
    objects: int  # in every image, spread over its phrases
    with_masks: bool

    @property
    def objects_per_prompt(self) -> list[int]:
        """Objects of every (image, phrase) pair, image by image."""
        share, rest = divmod(self.objects, self.phrases)
        return [share + (phrase < rest) for phrase in range(self.phrases)] * self.images


def make_batch(shape: BatchShape, mode: FakeTensorMode | None) -> Batch:
    """A batch whose large tensors are fake; indices, boxes and counts are real, so that code may read them.

    Args:
        mode: of the fake tensors; None = all real: grey images, empty masks.
    """
    counts = shape.objects_per_prompt
    prompts, objects, longest = len(counts), sum(counts), max(counts)
    side = shape.resolution
    with mode or nullcontext():
        images = torch.zeros(shape.images, 3, side, side)
        masks = torch.zeros(objects, side, side, dtype=torch.bool) if shape.with_masks else None
    boxes = torch.full((objects, 4), 0.25)
    ids = torch.cat([torch.arange(count) for count in counts])
    slots = torch.arange(longest)[None] < torch.tensor(counts)[:, None]
    return Batch(
        images=images,
        phrases=[f"object {index}" for index in range(shape.phrases)],
        image_index=torch.arange(shape.images).repeat_interleave(shape.phrases),
        phrase_index=torch.arange(shape.phrases).repeat(shape.images),
        prompt=GeometricPrompt.empty(prompts),
        targets=Targets(
            num_boxes=torch.tensor(counts),
            boxes=boxes,
            boxes_padded=torch.where(slots[..., None], 0.25, 0.0).expand(prompts, longest, 4).contiguous(),
            object_ids=ids,
            object_ids_padded=torch.where(slots, torch.arange(longest), -1),
            is_exhaustive=torch.ones(prompts, dtype=torch.bool),
            masks=masks,
            mask_is_valid=None if masks is None else torch.ones(objects, dtype=torch.bool),
        ),
        origin=BatchOrigin(
            image_ids=torch.arange(shape.images).repeat_interleave(shape.phrases),
            category_ids=torch.arange(shape.phrases).repeat(shape.images),
            original_sizes=torch.full((prompts, 2), side),
            file_names=[f"image {index}" for index in range(shape.images)],
        ),
    )


@dataclass(frozen=True)
class StandInMatcher:
    """Gives every object ``pairs`` queries, whatever was predicted, after computing what the real matcher compares."""

    matcher: Any  # a HungarianMatcher or a OneToManyMatcher
    pairs: int

    def __call__(self, predictions: QueryPredictions, targets: Targets, **_: Any) -> Matches:
        return self.match_layers([predictions], targets)[0]

    def match_layers(self, layers: Sequence[QueryPredictions], targets: Targets) -> list[Matches]:
        """As the matchers' method of this name; the comparisons of all layers are alive together."""
        compare = self.matcher.cost if hasattr(self.matcher, "cost") else self.matcher.score
        with torch.no_grad():
            compared = [compare(predictions, targets) for predictions in layers]
        matches = [self._matches(predictions.logits.shape[1], targets) for predictions in layers]
        del compared
        return matches

    def _matches(self, num_queries: int, targets: Targets) -> Matches:
        triples: list[tuple[int, int, int]] = []
        first = 0
        for prompt, count in enumerate(targets.num_boxes.tolist()):
            pairs = min(self.pairs, math.ceil(num_queries / max(count, 1)))
            matched = range(min(count * pairs, num_queries if self.pairs == 1 else count * pairs))
            triples += [(prompt, index % num_queries, first + index // pairs) for index in matched]
            first += count
        rows = torch.tensor(triples, dtype=torch.long).reshape(-1, 3)
        return Matches(*(column.contiguous() for column in rows.unbind(1)))


def replace_matchers(criterion: Any) -> None:
    """Let a criterion match by number: one query an object, ``topk`` of the one-to-many queries."""
    criterion.matcher = StandInMatcher(criterion.matcher, pairs=1)
    criterion.o2m_matcher = StandInMatcher(criterion.o2m_matcher, pairs=getattr(criterion.o2m_matcher, "topk", 1))


def tensors_of(value: Any) -> list[Tensor]:
    """Every tensor of a batch, for counting its bytes."""
    found: list[Tensor] = []
    map_tensors(value, lambda tensor: found.append(tensor) or tensor)
    return found
