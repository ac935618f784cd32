"""How well a query fits its prompt (spec detector 11)."""

from torch import Tensor, nn

from sam3.config import DetectorConfig
from sam3.model.layers.mlp import MLP
from sam3.ops.boxes import inverse_sigmoid
from sam3.ops.sequences import masked_mean

JOINT_CLAMP = 10.0


class DotProductScoring(nn.Module):
    """Scaled product of a projected query and the projected mean of the prompt's valid tokens."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width = config.d_model
        self.clamp = config.score_clamp
        self.prompt_mlp = MLP(width, config.prompt_mlp_dim, width, dropout=config.dropout, residual=True)
        self.prompt_proj = nn.Linear(width, width)
        self.hs_proj = nn.Linear(width, width)

    def embed_prompt(self, prompt: Tensor, prompt_mask: Tensor) -> Tensor:
        """(P, S, C), (P, S) True = padding -> (P, C, 1), the same for every layer and query."""
        return self.prompt_proj(masked_mean(self.prompt_mlp(prompt), prompt_mask))[..., None]

    def forward(self, queries: Tensor, prompt_embedding: Tensor) -> Tensor:
        """(P, Q, C), (P, C, 1) -> (P, Q, 1) logits in [-clamp, clamp]."""
        scores = self.hs_proj(queries) @ prompt_embedding / queries.shape[-1] ** 0.5
        return scores.clamp(-self.clamp, self.clamp)


def joint_logits(logits: Tensor, presence_logits: Tensor) -> Tensor:
    """Class and presence probability multiplied, as a logit: (P, Q, 1), (P, 1) -> (P, Q, 1)."""
    joint = logits.sigmoid() * presence_logits.sigmoid()[:, None]
    return inverse_sigmoid(joint).clamp(-JOINT_CLAMP, JOINT_CLAMP)
