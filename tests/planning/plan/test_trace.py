"""Counting of storages and of work, on computations small enough to count by hand."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from sam3.planning.plan.gpu_kernels import gpu_kernels
from sam3.planning.plan.trace import LiveStorages, fake_mode, make_fake, trace_step

ROWS, WIDTH = 1000, 100
BYTES = 4 * ROWS * WIDTH  # of one activation


def fake_layers(count: int) -> tuple[nn.Sequential, torch.Tensor]:
    mode = fake_mode()
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(count)))
    make_fake(model, mode)
    with mode:
        return model, torch.empty(ROWS, WIDTH)


def trace_layers(count: int, *, checkpointed: bool = False):
    model, x = fake_layers(count)
    loss = nn.Identity()

    def step():
        y = x
        for layer in model:
            y = (
                checkpoint(lambda t, layer=layer: layer(t).sin(), y, use_reentrant=False)
                if checkpointed
                else layer(y).sin()
            )
        loss(y.sum()).backward()

    return trace_step(step, parameters=model.parameters(), there=[x], forward_end=loss)


def test_what_an_operation_makes_lives_as_long_as_somebody_holds_it():
    mode = fake_mode()
    with mode:
        x = torch.empty(ROWS, WIDTH)
    with LiveStorages() as live:
        y = x + 1
        z = y * 2
        assert live.live == 2 * BYTES
        view = z[:10]  # no memory of its own
        del y
        assert live.live == BYTES
        del z
        assert live.live == BYTES
        del view
        assert (live.live, live.peak) == (0, 2 * BYTES)


def test_saved_activations_count_until_the_backward_pass_used_them():
    trace = trace_layers(4)
    # each layer keeps its product for sin and its result for the next layer; the last result only for the sum
    assert abs(trace.kept_after_forward - 8 * BYTES) <= BYTES + 100
    assert 8 * BYTES <= trace.peak <= 11 * BYTES


def test_checkpoints_keep_only_what_enters_them():
    kept, plain = trace_layers(8, checkpointed=True), trace_layers(8)
    assert abs(kept.kept_after_forward - 8 * BYTES) <= BYTES + 100
    assert kept.peak < 0.75 * plain.peak
    assert kept.flop == plain.flop + 8 * 2 * ROWS * WIDTH * WIDTH  # one more forward pass


def test_work_of_linear_layers_is_counted():
    product = 2 * ROWS * WIDTH * WIDTH
    assert trace_layers(3).flop == 3 * product + 3 * product + 2 * product  # forward, weights, inputs but the first


def test_gradients_are_told_apart_from_activations():
    trace = trace_layers(3)
    assert trace.gradients_at_peak <= 3 * 4 * WIDTH * WIDTH


def attention(*, dropout: float, on_gpu: bool) -> LiveStorages:
    mode = fake_mode()
    with mode:
        q = torch.empty(2, 4, 512, 16, requires_grad=True)
    with LiveStorages() as live:
        if on_gpu:
            with gpu_kernels():
                F.scaled_dot_product_attention(q, q, q, dropout_p=dropout).sum().backward()
        else:
            F.scaled_dot_product_attention(q, q, q, dropout_p=dropout).sum().backward()
    return live


def test_fused_attention_keeps_no_weights():
    weights = 4 * 2 * 4 * 512 * 512
    assert attention(dropout=0.1, on_gpu=False).peak > weights  # the CPU has no fused kernel with dropout
    assert attention(dropout=0.1, on_gpu=True).peak < weights / 4
    assert attention(dropout=0.0, on_gpu=False).peak < weights / 4


def test_work_of_attention_is_counted_on_both():
    cpu, gpu = (attention(dropout=0.0, on_gpu=where).flop for where in (False, True))
    assert cpu == gpu > 0


def test_the_replaced_functions_come_back():
    before = F.scaled_dot_product_attention, F.layer_norm
    with gpu_kernels():
        assert F.layer_norm is not before[1]
    assert (F.scaled_dot_product_attention, F.layer_norm) == before


def test_norms_under_autocast_are_in_float32_as_on_a_gpu():
    x = torch.ones(2, 8, dtype=torch.bfloat16)
    with gpu_kernels():
        assert F.layer_norm(x, (8,)).dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert F.layer_norm(x, (8,)).dtype == torch.float32


def test_values_of_fake_tensors_read_as_one():
    mode = fake_mode()
    with mode:
        x = torch.empty(3)
    with LiveStorages():
        assert x.sum().item() == 1.0
        assert bool((x > 0).any())
        assert len(x[torch.tensor([True, False, True])]) == 2
