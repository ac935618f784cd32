"""Image tokens attend to each other and to the prompt (spec detector 9)."""

from torch import Tensor, nn

from sam3.config import DetectorConfig
from sam3.model.layers.fusion_layer import FusionLayer
from sam3.model.layers.layer_list import LayerList


class FusionEncoder(nn.Module):
    """Pre-norm layers without a final norm; returns the memory that the decoder reads."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.layers = LayerList(EncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(
        self, image: Tensor, position: Tensor, image_index: Tensor, prompt: Tensor, prompt_mask: Tensor
    ) -> Tensor:
        """Mix prompts into their images.

        Args:
            image: (B, K, C) tokens of the coarsest map.
            position: (1, K, C) their sine encoding.
            image_index: (P,) row of ``image`` of each prompt.
            prompt: (P, S, C) text and geometry tokens.
            prompt_mask: (P, S) bool, True = padding.

        Returns:
            (P, K, C) memory.
        """
        memory = image
        for index, layer in enumerate(self.layers):
            rows = image_index if index == 0 else None
            memory = self.layers.run(layer, memory, position, prompt, prompt_mask, rows)
        return memory


class EncoderLayer(FusionLayer):
    """Self-attention with positions, cross-attention to the prompt, feed-forward."""

    def forward(
        self, image: Tensor, position: Tensor, prompt: Tensor, prompt_mask: Tensor, rows: Tensor | None
    ) -> Tensor:
        """(P, K, C) -> (P, K, C).

        With ``rows`` (P,) the input is (B, K, C), one row per image: prompts of one image have the same
        tokens until they first meet their prompt, so the self-attention runs once per image (in training
        with one dropout pattern).
        """
        if rows is not None and len(rows) < len(image):
            image, rows = image[rows], None
        image = self.attend_to_self(image, position=position)
        if rows is not None:
            image = image[rows]
        return self.attend_to_context(image, prompt, prompt, mask=prompt_mask)
