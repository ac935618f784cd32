import pytest
import torch

from sam3.errors import ConfigError
from sam3.train.losses.find import BoxLoss, ClassificationLoss
from sam3.train.matcher import HungarianMatcher, Matches
from tests.train.samples import pack_targets, predictions_from, random_predictions, random_targets

ONE = torch.ones(())


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _matches(*triples):
    return Matches(*torch.tensor(triples, dtype=torch.long).reshape(-1, 3).unbind(1))


def test_box_losses_of_a_shifted_box():
    target = torch.tensor([[0.4, 0.5, 0.2, 0.2]])
    found = target + torch.tensor([0.1, 0.0, 0.0, 0.0])
    losses = BoxLoss()(
        predictions_from(found[None], torch.zeros(1, 1, 1)), pack_targets([target]), _matches((0, 0, 0)), ONE
    )
    assert losses["loss_bbox"].item() == pytest.approx(0.1, rel=1e-5)
    assert losses["loss_giou"].item() == pytest.approx(1 - 1 / 3, rel=1e-5)  # half overlap, the hull is the union


def test_box_losses_are_divided_by_the_number_given():
    predictions, targets = random_predictions(2, 4), random_targets(2, 1)
    matches = HungarianMatcher()(predictions, targets)
    once, thrice = (BoxLoss()(predictions, targets, matches, torch.tensor(n)) for n in (1.0, 3.0))
    for name, value in once.items():
        assert thrice[name].item() == pytest.approx(value.item() / 3, rel=1e-6)


def test_zero_area_boxes_give_finite_losses_and_gradients():
    target = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    predictions = predictions_from(target[None].clone().requires_grad_(), torch.zeros(1, 1, 1, requires_grad=True))
    targets, matches = pack_targets([target]), _matches((0, 0, 0))
    total = BoxLoss()(predictions, targets, matches, ONE)["loss_giou"]
    total = total + ClassificationLoss()(predictions, targets, matches, ONE)["loss_ce"]
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(predictions.boxes.grad).all()


def test_classification_target_mixes_score_and_overlap():
    target = torch.tensor([[0.4, 0.5, 0.2, 0.2]])
    found = target + torch.tensor([0.1, 0.0, 0.0, 0.0])  # IoU 1/3
    predictions = predictions_from(found[None], torch.tensor([[[1.0]]]))
    loss = ClassificationLoss(alpha=0.25, pos_weight=1.0)(predictions, pack_targets([target]), _matches((0, 0, 0)), ONE)
    p = torch.sigmoid(torch.tensor(1.0)).item()
    wanted = p**0.25 * (1 / 3) ** 0.75
    expected = -(wanted * torch.tensor(p).log() + (1 - wanted) * torch.tensor(1 - p).log()).item()
    assert loss["loss_ce"].item() == pytest.approx(expected, rel=1e-4)


def test_a_matched_query_that_misses_its_object_still_learns_one_percent():
    predictions = predictions_from(torch.tensor([[[0.2, 0.2, 0.1, 0.1]]]), torch.zeros(1, 1, 1, requires_grad=True))
    targets = pack_targets([torch.tensor([[0.8, 0.8, 0.1, 0.1]])])
    ClassificationLoss(pos_weight=1.0)(predictions, targets, _matches((0, 0, 0)), ONE)["loss_ce"].backward()
    assert predictions.logits.grad.item() == pytest.approx(0.5 - 0.01, rel=1e-5)


def test_unmatched_queries_pay_cross_entropy_times_confidence_squared():
    targets = random_targets(1)
    predictions = predictions_from(targets.boxes[None].repeat(1, 2, 1), torch.tensor([[[-100.0], [1.0]]]))
    loss = ClassificationLoss(pos_weight=0.0)(predictions, targets, _matches((0, 0, 0)), ONE)["loss_ce"]
    p = torch.sigmoid(torch.tensor(1.0))
    assert loss.item() == pytest.approx((-(1 - p).log() * p**2 / 2).item(), rel=1e-5)


def test_negative_prompts_teach_presence_only():
    predictions, targets = random_predictions(2, 5), random_targets(0, 0)
    losses = ClassificationLoss()(predictions, targets, _matches(), ONE)
    assert losses["loss_ce"].item() == 0
    assert losses["presence_loss"].item() > 0
    sum(losses[name] for name in ("loss_ce", "presence_loss")).backward()
    assert predictions.logits.grad.abs().max() == 0
    assert (predictions.presence_logits.grad > 0).all()
    assert ClassificationLoss(use_presence=False)(predictions, targets, _matches(), ONE)["loss_ce"].item() > 0


def test_presence_is_half_the_mean_cross_entropy():
    predictions, targets = random_predictions(3, 4), random_targets(1, 0, 2)
    wanted = torch.tensor([1.0, 0.0, 1.0])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(predictions.presence_logits.squeeze(-1), wanted)
    found = ClassificationLoss()(predictions, targets, _matches(), ONE)
    assert found["presence_loss"].item() == pytest.approx(0.5 * loss.item(), rel=1e-6)


def test_objects_without_area_do_not_count_as_present():
    targets = pack_targets([torch.tensor([[0.5, 0.5, 0.2, 0.0]])])
    predictions = random_predictions(1, 3)
    with torch.no_grad():
        predictions.presence_logits.fill_(-5.0)
    assert ClassificationLoss()(predictions, targets, _matches(), ONE)["presence_dec_acc"].item() == 1


def test_a_query_with_two_objects_answers_for_the_one_it_covers_best():
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.6, 0.5, 0.4, 0.4]])
    predictions = predictions_from(boxes[None, :1], torch.zeros(1, 1, 1))
    targets = pack_targets([boxes])
    term = ClassificationLoss()
    both = [term(predictions, targets, _matches(*pairs), ONE)["loss_ce"].item() for pairs in _orders()]
    best = term(predictions, targets, _matches((0, 0, 0)), ONE)["loss_ce"].item()
    assert both == [best, best]


def _orders():
    pairs = [(0, 0, 0), (0, 0, 1)]
    return pairs, pairs[::-1]


def test_padding_to_a_number_of_queries():
    predictions, targets = random_predictions(2, 5), random_targets(2, 1)
    matches = HungarianMatcher()(predictions, targets)
    plain, padded, fewer = (
        ClassificationLoss(pad_n_queries=pad)(predictions, targets, matches, ONE)["loss_ce"].item()
        for pad in (None, 20, 3)
    )
    assert padded == pytest.approx(plain * 5 / 20, rel=1e-6)
    assert fewer == pytest.approx(plain, rel=1e-6)


def test_weak_loss_leaves_unmatched_queries_of_partly_annotated_prompts_alone():
    predictions = random_predictions(1, 5)
    targets = pack_targets([random_targets(1).boxes], exhaustive=False)
    matches = HungarianMatcher()(predictions, targets)
    ClassificationLoss(weak_loss=True)(predictions, targets, matches, ONE)["loss_ce"].backward()
    moved = predictions.logits.grad[0, :, 0] != 0
    assert moved.nonzero().flatten().tolist() == matches.query.tolist()


def test_a_perfect_answer_has_f1_one():
    targets = random_targets(2, 1)
    predictions = random_predictions(2, 4)
    matches = HungarianMatcher()(predictions, targets)
    with torch.no_grad():
        predictions.logits.fill_(-3.0)
        predictions.logits[matches.prompt, matches.query] = 3.0
    assert ClassificationLoss()(predictions, targets, matches, ONE)["ce_f1"].item() == 1


@pytest.mark.parametrize("term", [BoxLoss, ClassificationLoss])
def test_misspelt_weight_is_refused(term):
    with pytest.raises(ConfigError, match="loss_bbx"):
        term(weights={"loss_bbx": 1.0})
