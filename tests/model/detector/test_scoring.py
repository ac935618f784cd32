import torch

from sam3.model.detector.detector import Sam3Image
from sam3.model.detector.scoring import joint_logits


@torch.no_grad()
def test_padded_prompt_tokens_do_not_matter(model: Sam3Image) -> None:
    scoring = model.dot_prod_scoring
    prompt, mask = torch.randn(2, 4, 32), torch.tensor([[False] * 4, [False, False, True, True]])
    short = scoring.embed_prompt(prompt[1:, :2], mask[1:, :2])
    torch.testing.assert_close(scoring.embed_prompt(prompt, mask)[1:], short)


@torch.no_grad()
def test_scores_are_scaled_products_within_the_clamp(model: Sam3Image) -> None:
    scoring = model.dot_prod_scoring
    queries, embedding = torch.randn(2, 5, 32), torch.randn(2, 32, 1)
    scores = scoring(queries, embedding)
    expected = (scoring.hs_proj(queries) * embedding.transpose(1, 2)).sum(-1, keepdim=True) / 32**0.5
    torch.testing.assert_close(scores, expected)
    assert scoring(1000 * queries, embedding).abs().max() == 12


def test_joint_logits_multiply_probabilities() -> None:
    logits, presence = torch.tensor([[[1.0], [-2.0]]]), torch.tensor([[0.5]])
    expected = logits.sigmoid() * presence.sigmoid()
    torch.testing.assert_close(joint_logits(logits, presence).sigmoid(), expected)
    certain = joint_logits(torch.tensor([[[50.0]]]), torch.tensor([[50.0]]))
    assert certain.item() < 6.91  # log(1 / 1e-3)
