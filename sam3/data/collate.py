"""Samples -> one typed batch, and a batch -> micro-batches (``spec/training.md`` 5.6, batch first)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sam3.data.clips import Clip, ClipBatch, collate_clips
from sam3.data.samples import Query, Sample
from sam3.errors import DataError
from sam3.structures import Batch, BatchOrigin, GeometricPrompt, Targets


def collate(samples: Sequence[Sample] | Sequence[Clip]) -> Batch | ClipBatch:
    """Images stacked; queries of all samples in one row, sample by sample. Clips: see :func:`collate_clips`.

    Raises:
        DataError: no sample, images of different size, or an image that is no tensor yet.
    """
    if samples and isinstance(samples[0], Clip):
        return collate_clips(samples)
    _check_images(samples)
    queries = [query for sample in samples for query in sample.queries]
    phrases, phrase_index = _unique([query.phrase for query in queries])
    per_sample = torch.tensor([len(sample.queries) for sample in samples])
    return Batch(
        images=torch.stack([sample.image for sample in samples]),
        phrases=phrases,
        image_index=torch.repeat_interleave(torch.arange(len(samples)), per_sample),
        phrase_index=phrase_index,
        prompt=_geometric_prompt(queries),
        targets=_targets(samples),
        origin=BatchOrigin(
            image_ids=torch.tensor([_result_id(sample, query) for sample in samples for query in sample.queries]),
            category_ids=torch.tensor([query.category_id for query in queries], dtype=torch.long),
            original_sizes=torch.tensor([sample.original_size for sample in samples]).repeat_interleave(per_sample, 0),
            file_names=[sample.file_name for sample in samples],
        ),
    )


def split_batch(batch: Batch | ClipBatch, parts: int) -> list[Batch] | list[ClipBatch]:
    """Micro-batches for gradient accumulation: part ``i`` holds the images (or clips) ``i::parts`` with all they hold.

    Parts without an image are dropped, so there may be fewer than ``parts``. Every part equals what
    :func:`collate` makes of its samples.
    """
    if parts < 1:
        raise ValueError(f"a batch is split into at least 1 part, got {parts}")
    if isinstance(batch, ClipBatch):
        return [batch.select(range(index, len(batch), parts)) for index in range(min(parts, len(batch)))]
    return [_part(batch, index, parts) for index in range(min(parts, len(batch)))]


def _result_id(sample: Sample, query: Query) -> int:
    """The id that a result names: of the image, or of the pair where pairs have ids."""
    return sample.image_id if query.pair_id is None else query.pair_id


def split_prompts(batch: Batch, limit: int) -> list[Batch]:
    """Parts of at most ``limit`` prompts each, as equal as possible, in order; every part has all images."""
    if limit < 1:
        raise ValueError(f"a part holds at least 1 prompt, got {limit}")
    parts = max(1, -(-batch.num_prompts // limit))
    if parts == 1:
        return [batch]
    rows = torch.arange(batch.num_prompts, device=batch.image_index.device)
    return [_some_prompts(batch, part) for part in rows.tensor_split(parts)]


def _check_images(samples: Sequence[Sample]) -> None:
    if not samples:
        raise DataError("a batch needs at least one sample, got none")
    unfinished = [sample.file_name for sample in samples if not isinstance(sample.image, Tensor)]
    if unfinished:
        raise DataError(f"'{unfinished[0]}' is not a tensor yet; the transforms must end with Normalize")
    sizes = {sample.size for sample in samples}
    if len(sizes) > 1:
        raise DataError(
            f"images of one batch must have one size, got {sorted(sizes)}; resize or pad them to one square"
        )


def _unique(phrases: Sequence[str]) -> tuple[list[str], Tensor]:
    """Phrases in order of first use, and the position of each given phrase among them."""
    position: dict[str, int] = {}
    index = [position.setdefault(phrase, len(position)) for phrase in phrases]
    return list(position), torch.tensor(index, dtype=torch.long)


def _geometric_prompt(queries: Sequence[Query]) -> GeometricPrompt:
    counts = torch.tensor([len(query.input_boxes) for query in queries])
    boxes = pad_sequence([query.input_boxes for query in queries], batch_first=True)
    labels = pad_sequence([query.input_box_labels for query in queries], batch_first=True)
    return replace(
        GeometricPrompt.empty(len(queries)),
        boxes=boxes,
        box_labels=labels,
        box_mask=torch.arange(boxes.shape[1]) >= counts[:, None],
    )


def _targets(samples: Sequence[Sample]) -> Targets:
    boxes: list[Tensor] = []
    ids: list[Tensor] = []
    for sample in samples:
        for query in sample.queries:
            rows = torch.tensor(query.object_indices, dtype=torch.long)
            boxes.append(sample.objects.boxes[rows])
            ids.append(rows)
    masks, mask_is_valid = _masks(samples)
    return Targets(
        num_boxes=torch.tensor([len(rows) for rows in ids], dtype=torch.long),
        boxes=torch.cat(boxes),
        boxes_padded=pad_sequence(boxes, batch_first=True),
        object_ids=torch.cat(ids),
        object_ids_padded=pad_sequence(ids, batch_first=True, padding_value=-1),
        is_exhaustive=torch.tensor([query.is_exhaustive for sample in samples for query in sample.queries]),
        masks=masks,
        mask_is_valid=mask_is_valid,
    )


def _masks(samples: Sequence[Sample]) -> tuple[Tensor | None, Tensor | None]:
    """(N, H, W) and (N,), or nothing when a sample came without masks."""
    if any(sample.objects.masks is None for sample in samples):
        return None, None
    packed = [
        sample.objects.masks[index] for sample in samples for query in sample.queries for index in query.object_indices
    ]
    masks = torch.zeros(len(packed), *samples[0].size, dtype=torch.bool)
    for row, mask in zip(masks, packed, strict=True):
        if mask is not None:
            row.copy_(mask)
    return masks, torch.tensor([mask is not None for mask in packed], dtype=torch.bool)


def _part(batch: Batch, index: int, parts: int) -> Batch:
    """The images ``index::parts`` with their prompts."""
    part = _some_prompts(batch, torch.nonzero(batch.image_index % parts == index).flatten())
    return replace(
        part,
        images=batch.images[index::parts],
        image_index=part.image_index // parts,
        origin=replace(part.origin, file_names=batch.origin.file_names[index::parts]),
    )


def _some_prompts(batch: Batch, rows: Tensor) -> Batch:
    """The prompts ``rows``, in ascending order, with all images."""
    phrases, phrase_index = _unique([batch.phrases[i] for i in batch.phrase_index[rows].tolist()])
    origin = batch.origin
    return replace(
        batch,
        phrases=phrases,
        image_index=batch.image_index[rows],
        phrase_index=phrase_index.to(rows.device),
        prompt=_prompt_rows(batch.prompt, rows),
        targets=_target_rows(batch.targets, rows),
        origin=replace(
            origin,
            image_ids=origin.image_ids[rows],
            category_ids=origin.category_ids[rows],
            original_sizes=origin.original_sizes[rows],
        ),
    )


def _prompt_rows(prompt: GeometricPrompt, rows: Tensor) -> GeometricPrompt:
    """Some prompts, padding cut to the longest of them."""
    boxes = int((~prompt.box_mask[rows]).sum(1).max()) if prompt.boxes.shape[1] else 0
    points = int((~prompt.point_mask[rows]).sum(1).max()) if prompt.points.shape[1] else 0
    return GeometricPrompt(
        boxes=prompt.boxes[rows, :boxes],
        box_labels=prompt.box_labels[rows, :boxes],
        box_mask=prompt.box_mask[rows, :boxes],
        points=prompt.points[rows, :points],
        point_labels=prompt.point_labels[rows, :points],
        point_mask=prompt.point_mask[rows, :points],
    )


def _target_rows(targets: Targets, rows: Tensor) -> Targets:
    """Targets of some prompts, in ascending order, padding cut to the longest of them."""
    num_boxes = targets.num_boxes[rows]
    longest = int(num_boxes.max())
    prompt_of_object = torch.repeat_interleave(targets.num_boxes)
    objects = _as_slice(torch.isin(prompt_of_object, rows).nonzero().flatten())
    return Targets(
        num_boxes=num_boxes,
        boxes=targets.boxes[objects],
        boxes_padded=targets.boxes_padded[rows, :longest],
        object_ids=targets.object_ids[objects],
        object_ids_padded=targets.object_ids_padded[rows, :longest],
        is_exhaustive=targets.is_exhaustive[rows],
        masks=None if targets.masks is None else targets.masks[objects],
        mask_is_valid=None if targets.mask_is_valid is None else targets.mask_is_valid[objects],
        semantic_masks=None if targets.semantic_masks is None else targets.semantic_masks[rows],
    )


def _as_slice(rows: Tensor) -> Tensor | slice:
    """Neighbouring rows as a slice, which selects without a copy; masks are large."""
    if len(rows) == 0:
        return slice(0, 0)
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows
