import pytest
from torch import nn

from sam3.errors import ConfigError
from sam3.train.optim.groups import LayerDecay, Rule, layer_index, make_groups
from sam3.train.optim.schedules import ConstantSchedule, value_at


class _Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(2)
        self.linear = nn.Linear(2, 2)


class _Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Linear(2, 2)
        self.blocks = nn.ModuleList(_Block() for _ in range(11))
        self.neck = nn.Linear(2, 2)


class _Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = _Trunk()
        self.head = nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2))


def _rule(value, **filters):
    return Rule(schedule=ConstantSchedule(value=value), **filters)


def _options(**changes):
    return {
        "lr": [_rule(1.0), _rule(0.1, param_names=["trunk.*"])],
        "weight_decay": [_rule(0.5), _rule(0.0, param_names=["*bias*"], module_classes=["torch.nn.LayerNorm"])],
    } | changes


def _values(groups, option):
    return {name: value_at(group.schedules[option], 0, 1) for group in groups for name in group.names}


def test_groups_are_the_combinations_of_the_rules():
    groups = make_groups(_Model(), _options())
    assert len(groups) == 4
    assert groups[0].names == ["head.0.weight", "head.1.weight"]
    assert groups[1].names == ["head.0.bias", "head.1.bias"]
    lr, decay = _values(groups, "lr"), _values(groups, "weight_decay")
    assert lr["trunk.neck.bias"] == 0.1
    assert lr["head.0.weight"] == 1.0
    assert decay["trunk.blocks.3.norm.weight"] == 0
    assert decay["head.1.weight"] == 0.5  # a group norm is no LayerNorm
    assert len(lr) == len(list(_Model().parameters()))


def test_layer_decay_multiplies_the_learning_rate_only():
    decay = LayerDecay(value=0.5, apply_to="trunk")
    groups = make_groups(_Model(), _options(), layer_decay=decay)
    lr = _values(groups, "lr")
    assert lr["trunk.blocks.10.linear.weight"] == pytest.approx(0.1 * 0.5)
    assert lr["trunk.blocks.0.linear.weight"] == pytest.approx(0.1 * 0.5**11)
    assert lr["trunk.patch_embed.weight"] == pytest.approx(0.1 * 0.5**12)
    assert lr["trunk.neck.weight"] == 0.1
    assert lr["head.0.weight"] == 1.0
    assert _values(groups, "weight_decay")["trunk.blocks.0.linear.weight"] == 0.5


def test_a_class_does_not_stand_for_its_subclasses():
    class OwnNorm(nn.LayerNorm):
        pass

    model = nn.ModuleDict({"plain": nn.LayerNorm(2), "own": OwnNorm(2)})
    rules = [_rule(0.5), _rule(0.0, module_classes=["torch.nn.LayerNorm"])]
    decay = _values(make_groups(model, {"lr": [_rule(1.0)], "weight_decay": rules}), "weight_decay")
    assert decay == {"plain.weight": 0, "plain.bias": 0, "own.weight": 0.5, "own.bias": 0.5}


def test_layers_come_in_the_order_of_their_sorted_names():
    groups = make_groups(_Model(), _options(), layer_decay=LayerDecay(value=0.5, apply_to="trunk"))
    firsts = [group.names[0] for group in groups if "blocks" in group.names[0] and "linear" in group.names[0]]
    assert [name.split(".")[2] for name in firsts] == ["0", "1", "10", "2", "3", "4", "5", "6", "7", "8", "9"]


def test_overrides_and_the_least_value():
    decay = LayerDecay(
        value=0.1,
        min_value=0.01,
        apply_to="trunk",
        overrides=[{"pattern": "*blocks.3.*", "value": 2.0}, {"pattern": "*blocks.*", "value": 3.0}],
    )
    lr = _values(make_groups(_Model(), _options(), layer_decay=decay), "lr")
    assert lr["trunk.blocks.3.linear.weight"] == pytest.approx(0.2)
    assert lr["trunk.blocks.4.linear.weight"] == pytest.approx(0.3)
    assert lr["trunk.patch_embed.weight"] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("trunk.patch_embed.proj.weight", 0),
        ("trunk.pos_embed", 0),
        ("trunk.ln_pre.bias", 0),
        ("trunk.blocks.0.norm1.weight", 1),
        ("trunk.blocks.31.mlp.fc1.bias", 32),
        ("trunk.blocks.3.attn.rel_pos_h", 33),
        ("trunk.norm.weight", 33),
    ],
)
def test_layer_index(name, layer):
    assert layer_index(name, 32) == layer


def test_frozen_parameters_are_left_out():
    model = _Model()
    model.trunk.requires_grad_(False)
    groups = make_groups(model, _options())
    assert {name.split(".")[0] for group in groups for name in group.names} == {"head"}
    model.head.requires_grad_(False)
    with pytest.raises(ConfigError, match="no trainable parameter"):
        make_groups(model, _options())


def test_labels_name_the_learning_rate_rule():
    options = _options(lr=[_rule(1.0, name="rest"), _rule(0.1, param_names=["trunk.*"])])
    assert {group.label for group in make_groups(_Model(), options)} == {"rest", "trunk.*"}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([_rule(1.0), _rule(0.1, param_names=["trnk.*"])], r"options.lr: pattern 'trnk\.\*' matches no parameter"),
        ([_rule(1.0), _rule(2.0)], "more than one rule without"),
        ([_rule(0.1, param_names=["trunk.*"])], r"4 parameters fall under no rule \(first: 'head.0.weight'\)"),
        ([_rule(1.0, param_names=["*"]), _rule(0.1, param_names=["*bias"])], "falls under two rules, '\\*' and"),
        ([_rule(1.0), _rule(0.1, module_classes=["torch.nn.Conv2d"])], "no module of the model is a torch.nn.Conv2d"),
        ([_rule(1.0), _rule(0.1, module_classes=["torch.nn.LayerNrm"])], "torch.nn.LayerNrm' does not exist"),
        ([_rule(1.0), _rule(0.1, module_classes=["LayerNorm"])], "LayerNorm' does not exist"),
        ([_rule(1.0), _rule(0.1, module_classes=["torch.nn.functional.gelu"])], "is not a class"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rules, message):
    with pytest.raises(ConfigError, match=message):
        make_groups(_Model(), _options(lr=rules))


def test_options_need_a_learning_rate():
    with pytest.raises(ConfigError, match="lr"):
        make_groups(_Model(), {"weight_decay": [_rule(0.1)]})


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"value": 0.0}, "value"), ({"value": 0.9, "overrides": [{"pattern": "x"}]}, "overrides")],
)
def test_wrong_layer_decay_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        LayerDecay(apply_to="trunk", **settings)


def test_layer_decay_of_something_without_blocks_is_refused():
    with pytest.raises(ConfigError, match="'head' with blocks"):
        make_groups(_Model(), _options(), layer_decay=LayerDecay(value=0.9, apply_to="head"))
