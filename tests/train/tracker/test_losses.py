"""The loss of a frame against its plain definition."""

import math

import pytest
import torch

from sam3.errors import ConfigError
from sam3.model.tracker.tracker import TrackedMasks
from sam3.train.tracker.losses import WEIGHTS, ClipLoss
from sam3.train.tracker.rollout import FrameAnswer
from tests.train.tracker.small import moving_squares


def answer(logits, ious, scores, present, is_click=False):
    """R objects with M candidates of one value each on 2 x 2 cells."""
    candidates = torch.tensor(logits)[..., None, None].expand(-1, -1, 2, 2)
    tracked = TrackedMasks(
        candidates=candidates,
        ious=torch.tensor(ious),
        low_res=candidates[:, :1],
        pointers=torch.zeros(len(logits), 4),
        object_score_logits=torch.tensor(scores)[:, None],
    )
    return FrameAnswer(tracked, torch.tensor(present)[:, None], torch.full((len(logits), 1), is_click))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def focal(logit):
    p = sigmoid(logit)
    return 0.25 * (1 - p) ** 2 * -math.log(p)


def dice(logit):
    p = sigmoid(logit)
    return 1 - (2 * 4 * p + 1) / (4 * p + 4 + 1)


def test_after_a_click_the_cheapest_candidate_is_taught_and_the_quality_of_all():
    wanted = torch.ones(1, 2, 2)
    terms = ClipLoss().frame(answer([[-1.0, 2.0, 0.5]], [[0.2, 0.6, 0.9]], [1.5], [True], is_click=True), wanted)
    assert terms["loss_mask"].item() == pytest.approx(focal(2.0), rel=1e-5)
    assert terms["loss_dice"].item() == pytest.approx(dice(2.0), rel=1e-5)
    assert terms["loss_iou"].item() == pytest.approx((0.2 + 0.4 + 0.1) / 3, rel=1e-5)
    assert terms["loss_object"].item() == pytest.approx(-math.log(sigmoid(1.5)), rel=1e-5)


def test_where_nothing_is_ambiguous_all_candidates_are_taught():
    logits = [-1.0, 2.0, 0.5]
    terms = ClipLoss().frame(answer([logits], [[0.2, 0.6, 0.9]], [1.5], [True]), torch.ones(1, 2, 2))
    assert terms["loss_mask"].item() == pytest.approx(sum(map(focal, logits)) / 3, rel=1e-5)
    assert terms["loss_dice"].item() == pytest.approx(sum(map(dice, logits)) / 3, rel=1e-5)


def test_an_object_that_is_hidden_teaches_its_absence_alone():
    hidden = answer([[3.0], [2.0]], [[0.5], [0.7]], [2.0, 1.0], [False, True])
    terms = ClipLoss().frame(hidden, torch.stack([torch.zeros(2, 2), torch.ones(2, 2)]))
    alone = ClipLoss().frame(answer([[2.0]], [[0.7]], [1.0], [True]), torch.ones(1, 2, 2))
    for name in ("loss_mask", "loss_dice", "loss_iou"):
        assert terms[name].item() == pytest.approx(alone[name].item() / 2, rel=1e-6)
    wanted = (-math.log(1 - sigmoid(2.0)) - math.log(sigmoid(1.0))) / 2
    assert terms["loss_object"].item() == pytest.approx(wanted, rel=1e-5)


def test_the_total_is_the_weighted_mean_over_frames():
    batch = moving_squares(1, 2)
    answers = [
        answer([[1.0], [-1.0]], [[0.5], [0.5]], [0.5, -0.5], [True, True]),
        answer([[2.0], [0.0]], [[0.1], [0.9]], [1.0, -2.0], [True, False]),
    ]
    weights = {"loss_mask": 3.0, "loss_object": 2.0}
    losses = ClipLoss(weights)(answers, batch)
    shares = torch.nn.functional.interpolate(batch.masks.float(), (2, 2), mode="area")
    frames = [ClipLoss(weights).frame(given, shares[:, t]) for t, given in enumerate(answers)]
    means = {name: sum(float(frame[name]) for frame in frames) / 2 for name in WEIGHTS}
    assert {name: float(value) for name, value in losses.parts.items()} == pytest.approx(means)
    assert losses.total.item() == pytest.approx(3 * means["loss_mask"] + 2 * means["loss_object"])
    assert torch.isfinite(losses.total)


def test_unknown_weights_are_named():
    with pytest.raises(ConfigError, match="loss_masks"):
        ClipLoss({"loss_masks": 1.0})
