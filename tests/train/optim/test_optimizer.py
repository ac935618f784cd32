import copy

import pytest
import torch
from torch import nn

from sam3.errors import CheckpointError, ConfigError
from sam3.train.optim.groups import Rule
from sam3.train.optim.optimizer import build_optimizer, clip_gradients
from sam3.train.optim.schedules import ConstantSchedule, InverseSquareRootSchedule


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _model():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))


def _options(warmup=2):
    schedule = InverseSquareRootSchedule(base_lr=0.1, warmup_steps=warmup, cooldown_steps=0, timescale=10)
    return {
        "lr": [Rule(schedule=schedule)],
        "weight_decay": [
            Rule(schedule=ConstantSchedule(value=0.5)),
            Rule(schedule=ConstantSchedule(value=0.0), param_names=["*bias"]),
        ],
    }


def _built(model, **options):
    return build_optimizer(model, optimizer=torch.optim.AdamW, options=_options(**options))


def _train(model, optimizer, steps, start=0):
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(20, 5, 3, generator=generator)
    for step in range(start, start + steps):
        optimizer.zero_grad()
        model(data[step]).square().mean().backward()
        optimizer.apply_schedules(step, 20)
        optimizer.step()


def test_schedules_reach_the_groups():
    optimizer = _built(_model())
    assert [group["lr"] for group in optimizer.optimizer.param_groups] == [0, 0]
    optimizer.apply_schedules(1, 20)
    assert [group["lr"] for group in optimizer.optimizer.param_groups] == [0.05, 0.05]
    assert [group["weight_decay"] for group in optimizer.optimizer.param_groups] == [0.5, 0.0]


def test_the_first_step_of_a_warmup_moves_nothing():
    model = _model()
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = _built(model)
    _train(model, optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    _train(model, optimizer, 1, start=1)
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_saved_state_continues_bit_for_bit():
    model = _model()
    optimizer = _built(model)
    _train(model, optimizer, 4)
    weights, state = {k: v.clone() for k, v in model.state_dict().items()}, copy.deepcopy(optimizer.state_dict())
    _train(model, optimizer, 4, start=4)

    resumed = _model()
    resumed.load_state_dict(weights)
    continued = _built(resumed)
    continued.load_state_dict(state)
    _train(resumed, continued, 4, start=4)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_state_of_other_groups_is_refused():
    state = _built(_model()).state_dict()
    renamed = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(4, 1)})
    with pytest.raises(CheckpointError, match="parameter group 0 .* '0.weight'"):
        _built(renamed).load_state_dict(state)
    frozen = _model()
    for layer in (frozen[0], frozen[2]):
        layer.bias.requires_grad_(False)
    with pytest.raises(CheckpointError, match="2 parameter groups, this run has 1"):
        _built(frozen).load_state_dict(state)


def test_an_option_the_optimizer_lacks_is_refused():
    options = _options() | {"momentum_decay": [Rule(schedule=ConstantSchedule(value=1.0))]}
    with pytest.raises(ConfigError, match="AdamW has no such option"):
        build_optimizer(_model(), optimizer=torch.optim.AdamW, options=options)


def test_clipping_returns_the_norm_before():
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert clip_gradients(parameters, None).item() == 5
    assert parameters[0].grad[0] == 3
    assert clip_gradients(parameters, 10.0).item() == 5
    assert parameters[0].grad[0] == 3
    assert clip_gradients(parameters, 0.5).item() == 5
    assert parameters[0].grad[0].item() == pytest.approx(0.3, rel=1e-5)
    assert clip_gradients(parameters[2:], 1.0).item() == 0


def test_clipping_by_another_norm():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, -4.0])
    assert clip_gradients([parameter], 1.0, norm_type=float("inf")).item() == 4
    assert parameter.grad.tolist() == pytest.approx([0.75, -1.0], rel=1e-4)
