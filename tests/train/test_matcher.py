import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3.train.matcher import HungarianMatcher, NonFiniteCostError, OneToManyMatcher
from tests.train.samples import pack_targets, predictions_from, random_boxes, random_predictions, random_targets

P = 1 / (1 + math.exp(-1))  # probability of a logit of 1


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _triples(matches):
    return list(zip(matches.prompt.tolist(), matches.query.tolist(), matches.target.tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    queries=st.integers(1, 5),
    seed=st.integers(0, 1000),
    stable=st.booleans(),
    focal=st.booleans(),
)
def test_hungarian_is_as_cheap_as_the_best_of_all_assignments(counts, queries, seed, stable, focal):
    torch.manual_seed(seed)
    matcher = HungarianMatcher(stable=stable, focal=focal)
    predictions, targets = random_predictions(len(counts), queries), random_targets(*counts)
    cost = matcher.cost(predictions, targets)
    matches = matcher(predictions, targets)

    first = 0
    for prompt, count in enumerate(counts):
        own = [(query, target - first) for p, query, target in _triples(matches) if p == prompt]
        assert len(own) == min(count, queries)
        assert len({query for query, _ in own}) == len({target for _, target in own}) == len(own)
        found = sum(cost[prompt, query, target].item() for query, target in own)
        assert found == pytest.approx(_least_cost(cost[prompt, :, :count]), abs=1e-4)
        first += count


def _least_cost(cost):
    queries, targets = cost.shape
    if targets > queries:
        return _least_cost(cost.T)
    choices = permutations(range(queries), targets)
    return min(sum(cost[query, target].item() for target, query in enumerate(choice)) for choice in choices)


@pytest.mark.parametrize(
    ("settings", "class_cost"),
    [
        ({}, -0.25 * (1 - P) ** 2 * math.log(P) + 0.75 * P**2 * math.log(1 - P)),
        ({"focal": False}, -P),
        ({"stable": True}, -0.25 * (1 - P / 3) ** 2 * math.log(P / 3) + 0.75 * (P / 3) ** 2 * math.log(1 - P / 3)),
    ],
)
def test_cost_of_a_known_pair(settings, class_cost):
    """Boxes 0.2 wide, shifted by 0.4: the hull is 0.6 wide, a third of it uncovered, so GIoU = -1/3."""
    target = torch.tensor([[0.3, 0.5, 0.2, 0.2]])
    found = target + torch.tensor([0.4, 0.0, 0.0, 0.0])
    cost = HungarianMatcher(**settings).cost(
        predictions_from(found[None], torch.full((1, 1, 1), 1.0)), pack_targets([target])
    )
    assert cost.item() == pytest.approx(2 * class_cost + 5 * 0.4 + 2 / 3, rel=1e-5)


def test_hungarian_pairs_are_ordered_by_object():
    targets = random_targets(3, 0, 2)
    matches = HungarianMatcher()(random_predictions(3, 6), targets)
    assert matches.target.tolist() == [0, 1, 2, 3, 4]
    assert matches.prompt.tolist() == [0, 0, 0, 2, 2]


def test_hungarian_follows_a_permutation_of_the_queries():
    predictions, targets = random_predictions(2, 7), random_targets(3, 2)
    order = torch.randperm(7)
    shuffled = predictions_from(predictions.boxes[:, order], predictions.logits[:, order])
    matches, permuted = HungarianMatcher()(predictions, targets), HungarianMatcher()(shuffled, targets)
    assert order[permuted.query].tolist() == matches.query.tolist()


def test_layers_are_matched_as_if_alone():
    targets = random_targets(2, 0, 3)
    layers = [random_predictions(3, queries) for queries in (5, 3, 5)]
    matcher = HungarianMatcher()
    together = matcher.match_layers(layers, targets)
    assert [_triples(matches) for matches in together] == [_triples(matcher(layer, targets)) for layer in layers]


def test_invalid_queries_and_objects_are_never_matched():
    predictions, targets = random_predictions(2, 4), random_targets(3, 2)
    query_is_valid = torch.tensor([[True, False, True, False], [True] * 4])
    target_is_valid = torch.tensor([[True, True, False], [False, True, True]])
    validity = {"query_is_valid": query_is_valid, "target_is_valid": target_is_valid}
    for matcher in (HungarianMatcher(), OneToManyMatcher(threshold=0.0)):
        for prompt, query, target in _triples(matcher(predictions, targets, **validity)):
            assert query_is_valid[prompt, query]
            assert target_is_valid[prompt, target - 3 * prompt]
    assert len(HungarianMatcher()(predictions, targets, **validity)) == 3


@pytest.mark.parametrize("matcher", [HungarianMatcher(), OneToManyMatcher()])
@pytest.mark.parametrize("counts", [(), (0,), (0, 0)])
def test_no_objects_no_pairs(matcher, counts):
    matches = matcher(random_predictions(len(counts), 4), random_targets(*counts))
    assert len(matches) == 0
    assert matches.prompt.dtype == matches.query.dtype == matches.target.dtype == torch.long


def test_nan_predictions_name_the_prompts():
    predictions = random_predictions(3, 4)
    with torch.no_grad():
        predictions.logits[2, 1] = float("nan")
    with pytest.raises(NonFiniteCostError, match=r"prompts \[2\]") as caught:
        HungarianMatcher()(predictions, random_targets(1, 1, 1))
    assert caught.value.prompts == [2]


def test_nan_predictions_of_a_prompt_without_objects_do_not_stop_the_matching():
    predictions = random_predictions(2, 4)
    with torch.no_grad():
        predictions.logits[1] = float("nan")
    assert len(HungarianMatcher()(predictions, random_targets(2, 0))) == 2


@pytest.mark.parametrize("stable", [False, True])
def test_zero_area_boxes_are_matched(stable):
    boxes = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    predictions = predictions_from(boxes.expand(1, 3, 4), torch.full((1, 3, 1), -100.0))
    assert len(HungarianMatcher(stable=stable)(predictions, pack_targets([boxes]))) == 1


def test_one_to_many_takes_the_best_queries_of_each_object():
    target = torch.tensor([[0.3, 0.3, 0.2, 0.2]])
    shifts = torch.tensor([0.0, 0.01, 0.02, 0.03, 0.04, 0.4])
    boxes = target.repeat(6, 1)
    boxes[:, 0] += shifts
    predictions = predictions_from(boxes[None], torch.zeros(1, 6, 1))
    matches = OneToManyMatcher(topk=3)(predictions, pack_targets([target]))
    assert matches.query.tolist() == [0, 1, 2]
    assert OneToManyMatcher(topk=6)(predictions, pack_targets([target])).query.tolist() == [0, 1, 2, 3, 4]


def test_one_to_many_with_fewer_queries_than_topk_leaves_out_the_worst():
    target = torch.tensor([[0.3, 0.3, 0.2, 0.2]])
    boxes = target.repeat(3, 1)
    boxes[:, 0] += torch.tensor([0.02, 0.0, 0.01])
    matches = OneToManyMatcher(topk=4)(predictions_from(boxes[None], torch.zeros(1, 3, 1)), pack_targets([target]))
    assert matches.query.tolist() == [1, 2]


def test_one_to_many_may_give_a_query_to_two_objects():
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.42]])
    queries = torch.cat([boxes[:1], random_boxes(4) * 0.2])[None]
    matches = OneToManyMatcher(topk=1)(predictions_from(queries, torch.zeros(1, 5, 1)), pack_targets([boxes]))
    assert _triples(matches) == [(0, 0, 0), (0, 0, 1)]


def test_one_to_many_counts_objects_across_prompts():
    own = [random_boxes(2), random_boxes(0), random_boxes(1)]
    queries = torch.stack([random_boxes(6) for _ in own])
    queries[0, 3], queries[2, 5] = own[0][1], own[2][0]
    matches = OneToManyMatcher(topk=1, threshold=0.9, alpha=0.0)(
        predictions_from(queries, torch.zeros(3, 6, 1)), pack_targets(own)
    )
    assert _triples(matches) == [(0, 3, 1), (2, 5, 2)]


def test_matching_needs_no_gradient_and_accepts_half_precision():
    predictions, targets = random_predictions(2, 6), random_targets(2, 1)
    half = predictions_from(predictions.boxes.bfloat16(), predictions.logits.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cost = HungarianMatcher().cost(half, targets)
    assert cost.dtype == torch.float32
    assert not cost.requires_grad
