import pytest
import torch
from torch import Tensor

from sam3.config import ModelConfig
from sam3.errors import DataError
from sam3.model.text.encoder import TextEncoder


@pytest.fixture
def encoder(config: ModelConfig) -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(config.text, config.detector.d_model).eval()


def test_shapes_and_mask(encoder: TextEncoder, token_ids: Tensor) -> None:
    text = encoder(token_ids)
    assert text.features.shape == (3, 8, 32)
    assert text.embeddings.shape == (3, 8, 32)
    assert text.mask.sum(1).tolist() == [5, 4, 0]
    assert torch.equal(text.embeddings, encoder.encoder.token_embedding(token_ids))


def test_a_genuine_zero_is_masked_too(encoder: TextEncoder) -> None:
    text = encoder(torch.tensor([[62, 0, 5, 63, 0, 0, 0, 0]]))
    assert text.mask[0].tolist() == [False, True, False, False, True, True, True, True]


def test_tokens_see_only_what_precedes_them(encoder: TextEncoder, token_ids: Tensor) -> None:
    changed = token_ids.clone()
    changed[:, 3] = 33
    torch.testing.assert_close(encoder(token_ids).features[:, :3], encoder(changed).features[:, :3])


def test_no_phrases(encoder: TextEncoder) -> None:
    assert encoder(torch.zeros(0, 8, dtype=torch.long)).features.shape == (0, 8, 32)


def test_too_long_phrases_are_refused(encoder: TextEncoder) -> None:
    with pytest.raises(DataError, match="9 tokens.*8"):
        encoder(torch.ones(1, 9, dtype=torch.long))
