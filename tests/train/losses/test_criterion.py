import math

import pytest
import torch

from sam3.errors import ConfigError
from sam3.structures import DetectorOutput, QueryPredictions
from sam3.train.losses.criterion import Criterion
from sam3.train.losses.find import BoxLoss, ClassificationLoss
from sam3.train.losses.masks import MaskLoss
from sam3.train.losses.semantic import SemanticLoss
from sam3.train.matcher import HungarianMatcher, NonFiniteCostError, OneToManyMatcher
from tests.train.samples import leaves_of, pack_targets, random_output, random_predictions, random_targets


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _criterion(**settings):
    terms = settings.pop("terms", [BoxLoss(), ClassificationLoss(), MaskLoss()])
    return Criterion(terms, HungarianMatcher(), OneToManyMatcher(topk=2), **settings)


def test_parts_are_named_by_layer_and_branch():
    parts = _criterion()(random_output(2, 6, aux=2), random_targets(2, 1, mask_size=16)).parts
    final = {"loss_bbox", "loss_giou", "loss_ce", "ce_f1", "loss_mask", "loss_dice"}
    presence = {"presence_loss", "presence_dec_acc"}
    aux = final - {"loss_mask", "loss_dice"}
    expected = final | presence | {f"{name}_o2m" for name in final}
    for layer in (0, 1):
        expected |= {f"{name}_aux_{layer}" for name in aux | presence} | {f"{name}_aux_{layer}_o2m" for name in aux}
    assert set(parts) == expected
    assert all(not value.requires_grad and value.dim() == 0 for value in parts.values())


def test_total_is_the_weighted_sum_of_the_parts_times_the_root_of_the_prompts():
    losses = _criterion(o2m_weight=3.0)(random_output(4, 6), random_targets(2, 1, 0, 3, mask_size=16))
    weights = BoxLoss().weights | ClassificationLoss().weights | MaskLoss().weights
    weighted = [_weight_of(name, weights) * value.item() for name, value in losses.parts.items()]
    assert losses.total.item() == pytest.approx(math.sqrt(4) * sum(weighted), rel=1e-5)


def _weight_of(name, weights):
    return weights.get(name.removesuffix("_o2m").split("_aux_")[0], 0.0)


def test_metrics_of_one_to_many_queries_do_not_carry_their_weight():
    output, targets = random_output(2, 6), random_targets(2, 1, mask_size=16)
    with torch.no_grad():
        output.one_to_many.logits.fill_(2.0)
    once, thrice = (_lenient(o2m_weight=weight)(output, targets).parts for weight in (1.0, 3.0))
    assert thrice["ce_f1_o2m"] == once["ce_f1_o2m"] > 0
    assert thrice["loss_ce_o2m"].item() == pytest.approx(3 * once["loss_ce_o2m"].item(), rel=1e-6)


def _lenient(**settings):
    """Every query above the median serves every object."""
    matcher = OneToManyMatcher(topk=3, threshold=0.0)
    return Criterion([BoxLoss(), ClassificationLoss()], HungarianMatcher(), matcher, **settings)


def test_order_of_queries_and_objects_changes_nothing():
    output, boxes = random_output(1, 7, aux=1, mask_size=None), random_targets(4).boxes
    order, objects = torch.randperm(7), torch.randperm(4)
    terms = [BoxLoss(), ClassificationLoss()]
    total = _criterion(terms=terms)(output, pack_targets([boxes])).total
    permuted = _criterion(terms=terms)(_reordered(output, order), pack_targets([boxes[objects]])).total
    assert permuted.item() == pytest.approx(total.item(), rel=1e-5)


def _reordered(output, order):
    def layer(predictions):
        picked = {name: getattr(predictions, name)[:, order] for name in ("logits", "boxes", "boxes_xyxy")}
        return QueryPredictions(**picked, presence_logits=predictions.presence_logits)

    return DetectorOutput(
        one_to_one=layer(output.one_to_one),
        one_to_many=layer(output.one_to_many),
        aux_one_to_one=[layer(one) for one in output.aux_one_to_one],
        aux_one_to_many=[layer(many) for many in output.aux_one_to_many],
    )


def test_order_of_prompts_changes_nothing():
    output, boxes = random_output(3, 6, mask_size=None), [random_targets(n).boxes for n in (2, 0, 3)]
    order = [2, 0, 1]
    rows = DetectorOutput(one_to_one=_rows(output.one_to_one, order), one_to_many=_rows(output.one_to_many, order))
    output = DetectorOutput(one_to_one=output.one_to_one, one_to_many=output.one_to_many)
    terms = [BoxLoss(), ClassificationLoss()]
    total = _criterion(terms=terms)(output, pack_targets(boxes)).total
    permuted = _criterion(terms=terms)(rows, pack_targets([boxes[i] for i in order])).total
    assert permuted.item() == pytest.approx(total.item(), rel=1e-5)


def _rows(predictions, rows):
    return QueryPredictions(**{k: None if v is None else v[rows] for k, v in vars(predictions).items()})


def test_a_batch_of_two_is_the_mean_of_its_prompts_for_per_prompt_terms():
    """Classification is a mean over prompts, boxes are divided by all objects; equal counts make both plain means."""
    output, boxes = random_output(2, 6, aux=0, mask_size=None), [random_targets(2).boxes for _ in range(2)]
    terms = [BoxLoss(), ClassificationLoss()]
    criterion = _criterion(terms=terms, scale_by_prompts=False)
    alone = [
        criterion(
            DetectorOutput(one_to_one=_rows(output.one_to_one, [i]), one_to_many=_rows(output.one_to_many, [i])),
            pack_targets([boxes[i]]),
        ).total.item()
        for i in range(2)
    ]
    both = criterion(output, pack_targets(boxes)).total.item()
    assert both == pytest.approx(sum(alone) / 2, rel=1e-5)
    assert _criterion(terms=terms)(output, pack_targets(boxes)).total.item() == pytest.approx(both * 2**0.5, rel=1e-5)


@pytest.mark.parametrize("counts", [(0, 0), (3, 0), (1, 5)])
@pytest.mark.parametrize("scale", [1.0, 30.0, 200.0])
def test_gradients_are_finite(counts, scale):
    """No objects, more objects than queries, saturated logits."""
    output = random_output(2, 4, scale=scale)
    losses = _criterion(semantic=None)(output, random_targets(*counts, mask_size=16))
    losses.total.backward()
    assert torch.isfinite(losses.total)
    for leaf in leaves_of(output):
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()


def test_validation_output_has_one_layer_only():
    output = DetectorOutput(one_to_one=random_predictions(2, 6, mask_size=8))
    parts = _criterion()(output, random_targets(1, 0, mask_size=16)).parts
    assert not any("aux" in name or "o2m" in name for name in parts)


def test_autocast_is_left_outside():
    output, targets = random_output(2, 6), random_targets(2, 1, mask_size=16)
    exact = _criterion()(output, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = _criterion()(output, targets)
    assert under_autocast.total.dtype == torch.float32
    assert under_autocast.total.item() == exact.total.item()


def test_half_precision_output_gives_a_float32_loss():
    output = random_output(2, 6)
    half = DetectorOutput(one_to_one=_cast(output.one_to_one), one_to_many=_cast(output.one_to_many))
    losses = _criterion()(half, random_targets(2, 1, mask_size=16))
    assert losses.total.dtype == torch.float32
    assert all(value.dtype == torch.float32 for name, value in losses.parts.items() if name.startswith("loss"))


def _cast(predictions):
    return QueryPredictions(**{k: None if v is None else v.detach().bfloat16() for k, v in vars(predictions).items()})


def test_normalisation_by_objects():
    output, targets = random_output(2, 6, mask_size=None), random_targets(3, 1)
    by_objects, by_one = (
        _criterion(terms=[BoxLoss()], normalization=name)(output, targets).total.item() for name in ("local", "none")
    )
    assert by_one == pytest.approx(4 * by_objects, rel=1e-5)


def test_semantic_loss_joins_the_total():
    output, targets = random_output(2, 6), random_targets(2, 1, mask_size=16)
    output.semantic_logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    semantic = SemanticLoss(weights={"loss_semantic_seg": 5.0, "loss_semantic_presence": 1.0})
    losses = _criterion(semantic=semantic, scale_by_prompts=False)(output, targets)
    added = 5 * losses.parts["loss_semantic_seg"] + losses.parts["loss_semantic_presence"]
    without = _criterion(scale_by_prompts=False)(output, targets).total
    assert losses.total.item() == pytest.approx((without + added).item(), rel=1e-5)
    losses.total.backward()
    assert output.semantic_logits.grad.abs().max() > 0


def test_semantic_loss_without_a_semantic_map_is_a_configuration_error():
    with pytest.raises(ConfigError, match="enable_segmentation"):
        _criterion(semantic=SemanticLoss())(random_output(1, 4), random_targets(1, mask_size=16))


def test_nan_output_is_reported_before_any_loss():
    output = random_output(2, 4)
    with torch.no_grad():
        output.aux_one_to_one[0].boxes[1, 0] = float("nan")
    with pytest.raises(NonFiniteCostError, match=r"\[1\]"):
        _criterion()(output, random_targets(1, 1, mask_size=16))


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="normalization"):
        _criterion(normalization="mean")
    with pytest.raises(ConfigError, match="terms"):
        _criterion(terms=[])
