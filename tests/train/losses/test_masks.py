import pytest
import torch

from sam3.errors import ConfigError
from sam3.train.losses.masks import MaskLoss, choose_points, limit_per_prompt, sample_at
from sam3.train.matcher import HungarianMatcher, Matches
from tests.train.samples import random_predictions, random_targets

NAMES = ("loss_mask", "loss_dice")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _case(counts=(2, 0, 3), queries=6, mask_size=8, target_size=32):
    predictions = random_predictions(len(counts), queries, mask_size=mask_size)
    targets = random_targets(*counts, mask_size=target_size)
    return predictions, targets, HungarianMatcher()(predictions, targets), torch.tensor(float(max(1, sum(counts))))


def _run(term, predictions, targets, matches, num_boxes):
    predictions.masks.grad = None
    losses = term(predictions, targets, matches, num_boxes)
    (losses["loss_mask"] + losses["loss_dice"]).backward()
    return [losses[name].item() for name in NAMES], predictions.masks.grad.clone()


def test_chunks_change_neither_losses_nor_gradients():
    case = _case()
    values, gradient = _run(MaskLoss(), *case)
    for pixels in (1, 32 * 32, 2 * 32 * 32, 3 * 32 * 32 + 5):
        in_chunks, its_gradient = _run(MaskLoss(max_chunk_pixels=pixels), *case)
        assert in_chunks == pytest.approx(values, rel=1e-6)
        assert torch.allclose(its_gradient, gradient, rtol=1e-6, atol=1e-9)


def test_chunks_work_without_gradients():
    case = _case()
    with torch.no_grad():
        losses = MaskLoss(max_chunk_pixels=1)(*case)
    assert losses["loss_mask"].item() == pytest.approx(MaskLoss()(*case)["loss_mask"].item(), rel=1e-6)


def test_confident_perfect_masks_cost_nothing():
    predictions, targets, matches, num_boxes = _case(counts=(2,), mask_size=32, target_size=32)
    with torch.no_grad():
        predictions.masks[matches.prompt, matches.query] = torch.where(targets.masks[matches.target], 40.0, -40.0)
    losses = MaskLoss()(predictions, targets, matches, num_boxes)
    assert [losses[name].item() for name in NAMES] == pytest.approx([0, 0], abs=1e-6)


def test_objects_without_a_valid_mask_take_no_part():
    predictions, targets, matches, num_boxes = _case(counts=(3,))
    targets.mask_is_valid = torch.tensor([True, False, True])
    kept = matches.select(targets.mask_is_valid[matches.target])
    found = MaskLoss()(predictions, targets, matches, num_boxes)
    targets.mask_is_valid = None
    expected = MaskLoss()(predictions, targets, kept, num_boxes)
    assert [found[name].item() for name in NAMES] == [expected[name].item() for name in NAMES]


@pytest.mark.parametrize("term", [MaskLoss(), MaskLoss(num_sample_points=16), MaskLoss(max_masks=1)])
def test_nothing_matched_gives_zero_losses_and_zero_gradients(term):
    predictions, targets, matches, num_boxes = _case(counts=(0, 0))
    values, gradient = _run(term, predictions, targets, matches, num_boxes)
    assert values == [0, 0]
    assert gradient.abs().max() == 0
    targets.masks = None
    assert _run(term, predictions, targets, matches, num_boxes)[0] == [0, 0]


def test_a_layer_without_masks_has_no_mask_loss():
    predictions, targets, matches, num_boxes = _case()
    predictions.masks = None
    assert MaskLoss()(predictions, targets, matches, num_boxes) == {}


def test_sampled_points_estimate_the_full_loss():
    case = _case(counts=(2,), mask_size=16, target_size=64)
    case[1].masks[:] = torch.linspace(0, 3, 64).sin() > 0.5  # vertical bands: interpolation hardly changes them
    full = MaskLoss()(*case)
    term = MaskLoss(num_sample_points=4000, oversample_ratio=1.0, importance_sample_ratio=0.0)
    sampled = term(*case)
    for name in NAMES:
        assert sampled[name].item() == pytest.approx(full[name].item(), rel=0.05)


def test_chunks_change_nothing_at_sampled_points():
    case = _case()
    values = []
    for pixels in (2**23, 1):
        torch.manual_seed(1)
        values.append(_run(MaskLoss(num_sample_points=30, max_chunk_pixels=pixels), *case)[0])
    assert values[0] == values[1]


def test_sampled_points_prefer_uncertain_pixels():
    logits = torch.full((1, 8, 8), 10.0)
    logits[:, :, 4:] = -10.0
    candidates, uniform = torch.rand(1, 200, 2) * 0.8 + 0.1, torch.rand(1, 5, 2)  # logits fade to 0 at the border
    points = choose_points(logits, candidates, uniform, num_uncertain=20)
    assert points.shape == (1, 25, 2)
    assert (points[0, :20, 0] - 0.5).abs().max() < 0.15
    assert torch.equal(points[0, 20:], uniform[0])


def test_sample_at_reads_pixel_centres_and_fades_outside():
    image = torch.arange(16.0).view(1, 4, 4)
    centres = (torch.tensor([[[0.5, 0.5], [3.5, 0.5], [0.5, 3.5]]])) / 4
    assert sample_at(image, centres)[0].tolist() == pytest.approx([0.0, 3.0, 12.0])
    assert sample_at(image + 1, torch.tensor([[[1.5, 0.5]]])).item() == 0


def test_limit_keeps_so_many_pairs_of_each_prompt_and_lets_them_stand_for_all():
    prompt = torch.tensor([0] * 5 + [2] * 2 + [3])
    matches = Matches(prompt, torch.arange(8), torch.arange(8))
    kept, share = limit_per_prompt(matches, 3)
    assert kept.prompt.tolist() == [0, 0, 0, 2, 2, 3]
    assert share.tolist() == pytest.approx([5 / 3] * 3 + [1, 1, 1])
    assert torch.equal(kept.query, kept.target)
    assert len(set(kept.query.tolist())) == 6


def test_limited_masks_estimate_the_full_loss():
    case = _case(counts=(6,), queries=8)
    full = MaskLoss()(*case)["loss_mask"].item()
    limited = [MaskLoss(max_masks=2)(*case)["loss_mask"].item() for _ in range(300)]
    assert sum(limited) / len(limited) == pytest.approx(full, rel=0.02)
    assert max(limited) > min(limited)


def test_half_precision_logits_are_judged_in_float32():
    predictions, targets, matches, num_boxes = _case()
    exact = MaskLoss()(predictions, targets, matches, num_boxes)
    predictions.masks = predictions.masks.detach().bfloat16()
    half = MaskLoss()(predictions, targets, matches, num_boxes)
    assert half["loss_mask"].dtype == torch.float32
    assert half["loss_mask"].item() == pytest.approx(exact["loss_mask"].item(), rel=1e-2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_sample_points": 0}, "num_sample_points"),
        ({"max_masks": 0}, "max_masks"),
        ({"oversample_ratio": 0.5}, "oversample_ratio"),
        ({"importance_sample_ratio": 1.5}, "importance_sample_ratio"),
        ({"weights": {"loss_masks": 1.0}}, "loss_masks"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        MaskLoss(**settings)
