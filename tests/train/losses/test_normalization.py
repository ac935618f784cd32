"""Shares of a batch: the mean of the processes' losses is the loss of one process with all prompts."""

import pytest
import torch

from sam3.structures import DetectorOutput, QueryPredictions
from sam3.train.losses.criterion import Criterion
from sam3.train.losses.find import BoxLoss, ClassificationLoss
from sam3.train.losses.masks import MaskLoss
from sam3.train.losses.normalization import Share
from sam3.train.matcher import HungarianMatcher, OneToManyMatcher
from tests.train.samples import pack_targets, random_boxes, random_output


def part_of(output: DetectorOutput, rows: slice) -> DetectorOutput:
    def some(predictions: QueryPredictions | None) -> QueryPredictions | None:
        return None if predictions is None else predictions.select(rows)

    return DetectorOutput(
        one_to_one=some(output.one_to_one),
        one_to_many=some(output.one_to_many),
        aux_one_to_one=[some(layer) for layer in output.aux_one_to_one],
        aux_one_to_many=[some(layer) for layer in output.aux_one_to_many],
    )


def whole_and_parts(counts, borders, normalization):
    """Losses of all prompts at once, and of each part of them with its share."""
    torch.manual_seed(0)
    criterion = Criterion(
        [BoxLoss(), ClassificationLoss(), MaskLoss()],
        HungarianMatcher(),
        OneToManyMatcher(topk=2),
        normalization=normalization,
    )
    boxes = [random_boxes(count) for count in counts]
    masks = [torch.rand(count, 16, 16) > 0.5 for count in counts]
    output = random_output(len(counts), 6, mask_size=8)
    whole = criterion(output, pack_targets(boxes, torch.cat(masks)))
    parts = []
    for first, last in zip([0, *borders], [*borders, len(counts)], strict=True):
        share = Share(
            prompts=len(counts),
            objects=sum(counts),
            fraction=(last - first) / len(counts),
            processes=len(borders) + 1,
        )
        targets = pack_targets(boxes[first:last], torch.cat(masks[first:last]))
        parts.append((share, criterion(part_of(output, slice(first, last)), targets, share)))
    return whole, parts


@pytest.mark.parametrize(
    ("counts", "borders"),
    [
        ((2, 1, 0, 3), (2,)),  # equally many prompts, not equally many objects
        ((2, 1, 0, 3, 1), (1, 4)),  # three processes, unequal
        ((3, 0, 0), (1,)),  # one process has negatives only
        ((0, 1), (1,)),  # fewer objects than processes
        ((0, 0), (1,)),  # none at all
    ],
)
@pytest.mark.parametrize("normalization", ["global", "none"])
def test_the_processes_together_are_one(counts, borders, normalization):
    whole, parts = whole_and_parts(counts, borders, normalization)
    mean = sum(losses.total for _, losses in parts) / len(parts)
    assert mean.item() == pytest.approx(whole.total.item(), rel=1e-5)
    summands = [losses.here(share) for share, losses in parts]
    for name in ("loss", "loss_ce", "presence_loss_aux_0", "loss_bbox", "loss_mask_o2m", "loss_giou_aux_1_o2m"):
        expected = whole.total if name == "loss" else whole.parts[name]
        assert sum(s[name] for s in summands).item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-7), name


def test_a_stand_in_has_no_loss_and_no_gradient():
    torch.manual_seed(0)
    criterion = Criterion([BoxLoss(), ClassificationLoss()], HungarianMatcher(), OneToManyMatcher())
    output = random_output(2, 6, mask_size=None)
    share = Share(prompts=3, objects=0, fraction=0.0, processes=2)
    losses = criterion(output, pack_targets([random_boxes(2), random_boxes(1)]), share)
    losses.total.backward()
    assert losses.total.item() == 0
    assert output.one_to_one.boxes.grad.abs().max() == 0
    assert all(value == 0 for value in losses.here(share).values())


def test_local_normalisation_divides_by_the_objects_here():
    share = Share(prompts=4, objects=9, fraction=0.5, processes=2)
    targets = pack_targets([random_boxes(3), random_boxes(0)])
    output = random_output(2, 6, mask_size=None)
    results = {}
    for name in ("global", "local"):
        criterion = Criterion([BoxLoss()], HungarianMatcher(), OneToManyMatcher(), normalization=name)
        results[name] = criterion(output, targets, share).parts["loss_bbox"].item()
    assert results["global"] == pytest.approx(results["local"] * 3 / 4.5, rel=1e-5)
