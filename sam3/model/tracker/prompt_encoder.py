"""Clicks, boxes and rough masks of one object -> tokens and a map (spec/tracker_video.md 2.1, 2.2)."""

import math

import torch
from torch import Tensor, nn

from sam3.config import TrackerConfig
from sam3.model.layers.norm import LayerNorm2d

PADDING, NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3  # labels of points


class PromptEncoder(nn.Module):
    """Attribute names are the keys of the released weights."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        width, hidden = config.d_model, config.mask_prompt_channels
        self.image_size = config.image_size
        self.pe_layer = FourierCode(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.no_mask_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, hidden // 4, 2, 2),
            LayerNorm2d(hidden // 4),
            nn.GELU(),
            nn.Conv2d(hidden // 4, hidden, 2, 2),
            LayerNorm2d(hidden),
            nn.GELU(),
            nn.Conv2d(hidden, width, 1),
        )

    def forward(
        self,
        *,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        grid: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Encode what is given of B objects.

        Args:
            points: (B, K, 2) xy in model pixels and (B, K) labels: 0 negative, 1 positive, 2 and 3 the corners of a
                box, -1 nothing. Without ``boxes`` one more of label -1 is appended.
            boxes: (B, 4) xyxy in model pixels.
            masks: (B, 1, 4 h, 4 w) logits.
            grid: (h, w) of the image embedding.

        Returns:
            Tokens (B, T, C), T = 0 with neither points nor boxes, and a map (B, C, h, w) (of stride 0 without masks).
        """
        rows = next(len(given) for given in (points and points[0], boxes, masks) if given is not None)
        tokens = []
        if points is not None:
            tokens.append(self._encode_points(*(points if boxes is not None else _padded(*points))))
        if boxes is not None:
            corners = boxes.reshape(-1, 2, 2)
            labels = torch.tensor([TOP_LEFT, BOTTOM_RIGHT], device=boxes.device).expand(len(boxes), 2)
            tokens.append(self._encode_points(corners, labels))
        width = self.no_mask_embed.embedding_dim
        weight = self.no_mask_embed.weight
        sparse = torch.cat(tokens, 1) if tokens else weight.new_zeros(rows, 0, width)
        if masks is None:
            return sparse, weight.reshape(1, width, 1, 1).expand(rows, width, *grid)
        return sparse, self.mask_downscaling(masks.to(weight.dtype))

    def dense_code(self, grid: tuple[int, int]) -> Tensor:
        """(1, C, h, w): where each cell of an image embedding is."""
        return self.pe_layer.of_grid(grid)

    def _encode_points(self, coordinates: Tensor, labels: Tensor) -> Tensor:
        """(B, K, 2) and (B, K) -> (B, K, C)."""
        code = self.pe_layer((coordinates.float() + 0.5) / self.image_size)
        code = torch.where((labels == PADDING)[..., None], self.not_a_point_embed.weight, code)
        for label, embedding in enumerate(self.point_embeddings):
            code = code + torch.where(
                (labels == label)[..., None], embedding.weight, torch.zeros_like(embedding.weight)
            )
        return code


class FourierCode(nn.Module):
    """Random Fourier features of positions; the matrix is a buffer of the weight file."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, width // 2))

    def forward(self, positions: Tensor) -> Tensor:
        """(..., 2) xy in [0, 1] -> (..., C) in the dtype of the matrix; angles in float32."""
        matrix = self.positional_encoding_gaussian_matrix
        angles = 2 * math.pi * ((2 * positions.float() - 1) @ matrix.float())
        return torch.cat([angles.sin(), angles.cos()], -1).to(matrix.dtype)

    def of_grid(self, grid: tuple[int, int]) -> Tensor:
        """(1, C, h, w): the centres of the cells."""
        height, width = grid
        device = self.positional_encoding_gaussian_matrix.device
        rows = (torch.arange(height, device=device) + 0.5) / height
        columns = (torch.arange(width, device=device) + 0.5) / width
        positions = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)], -1)
        return self(positions).permute(2, 0, 1)[None]


def _padded(coordinates: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """One more point that is none."""
    rows = len(coordinates)
    return (
        torch.cat([coordinates, coordinates.new_zeros(rows, 1, 2)], 1),
        torch.cat([labels, labels.new_full((rows, 1), PADDING)], 1),
    )
