import pytest
import torch
from torch import nn

from sam3.model.layers.attention import MultiHeadAttention


@pytest.fixture
def pair() -> tuple[MultiHeadAttention, nn.MultiheadAttention]:
    """Ours and torch's with the same weights."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    nn.init.normal_(theirs.in_proj_bias)
    ours = MultiHeadAttention(16, 4)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def test_self_attention_equals_torch(pair) -> None:
    ours, theirs = pair
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], rtol=1e-5, atol=1e-6)


def test_every_sharing_of_inputs_equals_torch(pair) -> None:
    ours, theirs = pair
    query, key, value = torch.randn(2, 5, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    for arguments in ((query, key, value), (query, key, key), (key, key, value), (query, query, query)):
        torch.testing.assert_close(ours(*arguments), theirs(*arguments)[0], rtol=1e-5, atol=1e-6)


def test_masks_equal_torch(pair) -> None:
    ours, theirs = pair
    query, key = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    mask = torch.zeros(2, 7, dtype=torch.bool)
    mask[0, 3:] = True
    expected = theirs(query, key, key, key_padding_mask=mask)[0]
    torch.testing.assert_close(ours(query, key, key_mask=mask), expected, rtol=1e-5, atol=1e-6)

    bias = torch.randn(2, 4, 5, 7)
    expected = theirs(query, key, key, attn_mask=bias.flatten(0, 1))[0]
    torch.testing.assert_close(ours(query, key, bias=bias), expected, rtol=1e-5, atol=1e-6)


def test_causal_ignores_what_follows(pair) -> None:
    ours, _ = pair
    x = torch.randn(1, 6, 16)
    changed = x.clone()
    changed[:, 4:] += 1
    torch.testing.assert_close(ours(x, causal=True)[:, :4], ours(changed, causal=True)[:, :4])
    assert not torch.allclose(ours(x)[:, :4], ours(changed)[:, :4])


def test_dropout_acts_in_training_only(pair) -> None:
    ours, _ = pair
    ours.dropout = 0.5
    x = torch.randn(1, 6, 16)
    torch.testing.assert_close(ours.eval()(x), ours(x))
    assert not torch.allclose(ours.train()(x), ours(x))
