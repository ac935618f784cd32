import pytest
import torch

from sam3.errors import ConfigError
from sam3.train.losses.semantic import SemanticLoss, semantic_target
from sam3.train.losses.terms import weighted_sum
from tests.train.samples import random_targets


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_target_is_the_union_of_the_instances_of_each_prompt():
    targets = random_targets(2, 0, 1, mask_size=16)
    union = semantic_target(targets, 3)
    assert torch.equal(union[0], targets.masks[0] | targets.masks[1])
    assert not union[1].any()
    assert torch.equal(union[2], targets.masks[2])


def test_given_semantic_masks_win_over_the_instances():
    targets = random_targets(1, mask_size=16)
    targets.semantic_masks = torch.rand(1, 16, 16) > 0.5
    assert torch.equal(semantic_target(targets, 1), targets.semantic_masks)


def test_without_any_mask_the_loss_is_zero():
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    losses = SemanticLoss()(logits, random_targets(1, 2))
    weighted_sum(losses, SemanticLoss().weights).backward()
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("downsample", [True, False])
@pytest.mark.parametrize("only_present", [True, False])
def test_all_negative_batches_are_finite(downsample, only_present):
    logits = (torch.randn(2, 1, 8, 8) * 30).requires_grad_()
    targets = random_targets(0, 0, mask_size=32)
    losses = SemanticLoss(downsample=downsample, only_present=only_present, focal=True)(logits, targets)
    weighted_sum(losses, SemanticLoss().weights).backward()
    assert torch.isfinite(logits.grad).all()
    assert losses["miou_semantic_seg"].item() == 1
    assert (losses["loss_semantic_seg"].item() == 0) == only_present


def test_downsampling_counts_every_pixel_in_reach():
    targets = random_targets(1, mask_size=32)
    targets.masks = torch.zeros(1, 32, 32, dtype=torch.bool)
    targets.masks[0, 5, 5] = True  # read by the 8 x 8 pixel (1, 1), whose centre lies between rows 5 and 6
    logits = torch.full((1, 1, 8, 8), -40.0)
    logits[0, 0, 1, 1] = 40.0
    losses = SemanticLoss()(logits, targets)
    assert losses["loss_semantic_seg"].item() == pytest.approx(0, abs=1e-6)
    assert losses["miou_semantic_seg"].item() == 1


def test_only_present_averages_over_prompts_with_objects():
    logits = torch.randn(3, 1, 8, 8)
    targets = random_targets(1, 0, 2, mask_size=8)
    term = SemanticLoss(downsample=False)
    each = [
        term(logits[i : i + 1], targets_of, None)["loss_semantic_seg"].item()
        for i, targets_of in enumerate(_alone(targets))
    ]
    present = SemanticLoss(downsample=False, only_present=True)(logits, targets)["loss_semantic_seg"].item()
    assert term(logits, targets)["loss_semantic_seg"].item() == pytest.approx(sum(each) / 3, rel=1e-5)
    assert present == pytest.approx((each[0] + each[2]) / 2, rel=1e-5)


def _alone(targets):
    union = semantic_target(targets, len(targets))
    for prompt in range(len(targets)):
        alone = random_targets(1, mask_size=8)
        alone.semantic_masks = union[prompt : prompt + 1]
        yield alone


def test_presence_logits_add_their_loss():
    targets = random_targets(1, 0, mask_size=8)
    losses = SemanticLoss()(torch.randn(2, 1, 8, 8), targets, torch.tensor([[2.0], [2.0]]))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 0.0]))
    assert losses["loss_semantic_presence"].item() == pytest.approx(expected.item())
    assert losses["presence_acc"].item() == 0.5


def test_misspelt_weight_is_refused():
    with pytest.raises(ConfigError, match="loss_semantic'"):
        SemanticLoss(weights={"loss_semantic": 1.0})
