"""Object queries and the presence token read the fused image (spec detector 10)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import DetectorConfig
from sam3.model.layers.attention import MultiHeadAttention
from sam3.model.layers.layer_list import LayerList
from sam3.model.layers.mlp import MLP
from sam3.model.layers.position import encode_boxes
from sam3.ops.boxes import box_cxcywh_to_xyxy, inverse_sigmoid


@dataclass
class DecoderLayerOutput:
    """What is read from the decoder's state after one layer. Q counts both halves of doubled queries."""

    queries: Tensor  # (P, Q, C) normed
    boxes: Tensor  # (P, Q, 4) cxcywh float32, the refined boxes
    references: Tensor  # (P, Q, 4) cxcywh float32, the boxes that entered the layer
    presence_logits: Tensor  # (P, 1)
    presence_token: Tensor  # (P, 1, C) before its norm


class Decoder(nn.Module):
    """Post-norm layers that refine one box per query; a presence token rides along as item 0.

    Training asks for ``doubled`` queries (DAC): the second half is matched one-to-many and skips self-attention.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width = config.d_model
        self.num_queries = config.num_queries
        self.layers = LayerList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(width)
        self.query_embed = nn.Embedding(config.num_queries, width)
        self.reference_points = nn.Embedding(config.num_queries, 4)
        self.bbox_embed = MLP(width, width, width, 4)
        self.ref_point_head = MLP(2 * width, width, width)
        self.boxRPB_embed_x = MLP(2, width, config.num_heads)
        self.boxRPB_embed_y = MLP(2, width, config.num_heads)
        self.presence_token = nn.Embedding(1, width)
        self.presence_token_head = MLP(width, width, width, 1)
        self.presence_token_out_norm = nn.LayerNorm(width)

    def forward(
        self,
        memory: Tensor,
        position: Tensor,
        grid_size: tuple[int, int],
        prompt: Tensor,
        prompt_mask: Tensor,
        *,
        every_layer: bool,
        doubled: bool = False,
    ) -> list[DecoderLayerOutput]:
        """Decode P prompts.

        Args:
            memory: (P, H * W, C) from the fusion encoder.
            position: (1, H * W, C) sine encoding.
            grid_size: (H, W) of the memory.
            prompt: (P, S, C) text and geometry tokens.
            prompt_mask: (P, S) bool, True = padding.
            every_layer: read every layer instead of the last only.
            doubled: add the one-to-many half of the queries.
        """
        copies = 2 if doubled else 1
        tokens = torch.cat([self.presence_token.weight, self.query_embed.weight.repeat(copies, 1)])
        tokens = tokens.expand(len(memory), -1, -1)
        carried = self.reference_points.weight.float().sigmoid().repeat(copies, 1).expand(len(memory), -1, -1)
        reference = carried
        context = (prompt, prompt_mask, memory + position, memory)
        outputs = []
        for index, layer in enumerate(self.layers):
            tokens = self.layers.run(self._step, layer, tokens, reference, grid_size, *context)
            queries = self.norm(tokens[:, 1:])
            offset = self.bbox_embed(queries).float()
            refined = (offset + inverse_sigmoid(reference)).sigmoid()
            if every_layer or index == len(self.layers) - 1:
                outputs.append(self._read(tokens, queries, offset, carried))
            # The loss sees each layer's boxes through the layer before; what the network reads next is cut off.
            carried, reference = refined, refined.detach()
        return outputs

    def _step(
        self,
        layer: "DecoderLayer",
        tokens: Tensor,
        reference: Tensor,
        grid_size: tuple[int, int],
        prompt: Tensor,
        prompt_mask: Tensor,
        key: Tensor,
        value: Tensor,
    ) -> Tensor:
        dtype = tokens.dtype
        position = self.ref_point_head(encode_boxes(reference, layer.d_model // 2).to(dtype))
        bias = self.position_bias(reference, grid_size, with_presence=True)
        return layer(
            tokens,
            position=F.pad(position, (0, 0, 1, 0)),  # the presence token has no place
            prompt=prompt,
            prompt_mask=prompt_mask,
            key=key,
            value=value,
            bias=bias,
            num_attending=1 + self.num_queries,
        )

    def position_bias(self, boxes: Tensor, grid_size: tuple[int, int], *, with_presence: bool = False) -> Tensor:
        """How the place of a memory cell relative to a query's box biases attention (box RPB, logarithmic).

        Args:
            boxes: (P, Q, 4) cxcywh.
            grid_size: (H, W).
            with_presence: put a zero row for the presence token in front.

        Returns:
            (P, heads, Q or 1 + Q, H * W).
        """
        x0, y0, x1, y1 = box_cxcywh_to_xyxy(boxes).unbind(-1)
        height, width = grid_size
        rows = self.boxRPB_embed_y(self._edge_distances(y0, y1, height)).permute(0, 3, 1, 2)
        columns = self.boxRPB_embed_x(self._edge_distances(x0, x1, width)).permute(0, 3, 1, 2)
        if with_presence:
            rows, columns = F.pad(rows, (0, 0, 1, 0)), F.pad(columns, (0, 0, 1, 0))
        return (rows[..., :, None] + columns[..., None, :]).flatten(-2)

    def _edge_distances(self, low: Tensor, high: Tensor, length: int) -> Tensor:
        """(P, Q) edges -> (P, Q, length, 2): signed log distance of each cell's first edge to both edges."""
        cells = torch.arange(length, device=low.device, dtype=torch.float32) / length
        scaled = 8 * (cells[:, None] - torch.stack([low, high], -1)[:, :, None])
        distances = scaled.sign() * torch.log2(scaled.abs() + 1) / 3  # log2(8) = 3
        return distances.to(self.boxRPB_embed_x.layers[0].bias.dtype)

    def _read(self, tokens: Tensor, queries: Tensor, offset: Tensor, carried: Tensor) -> DecoderLayerOutput:
        token = tokens[:, :1]
        return DecoderLayerOutput(
            queries=queries,
            boxes=(offset + inverse_sigmoid(carried)).sigmoid(),
            references=carried,
            presence_logits=self.presence_token_head(self.presence_token_out_norm(token))[:, 0],
            presence_token=token,
        )


class DecoderLayer(nn.Module):
    """Self-attention, text, image, feed-forward; the norm follows each sum. The norms' names are the released ones."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width, heads, dropout = config.d_model, config.num_heads, config.dropout
        self.d_model = width
        self.self_attn = MultiHeadAttention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.ca_text = MultiHeadAttention(width, heads, dropout)
        self.catext_norm = nn.LayerNorm(width)
        self.cross_attn = MultiHeadAttention(width, heads, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.dim_feedforward)
        self.linear2 = nn.Linear(config.dim_feedforward, width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Tensor,
        *,
        position: Tensor,
        prompt: Tensor,
        prompt_mask: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor,
        num_attending: int,
    ) -> Tensor:
        """(P, 1 + Q, C) -> the same. Only the first ``num_attending`` tokens take part in self-attention."""
        attending = tokens[:, :num_attending]
        located = attending + position[:, :num_attending]
        attending = attending + self.dropout(self.self_attn(located, located, attending))
        if num_attending < tokens.shape[1]:
            attending = torch.cat([attending, tokens[:, num_attending:]], 1)
        tokens = self.norm2(attending)
        from_text = self.ca_text(tokens + position, prompt, key_mask=prompt_mask)
        tokens = self.catext_norm(tokens + self.dropout(from_text))
        from_image = self.cross_attn(tokens + position, key, value, bias=bias)
        tokens = self.norm1(tokens + self.dropout(from_image))
        return self.norm3(tokens + self._feed_forward(tokens))

    def _feed_forward(self, tokens: Tensor) -> Tensor:
        """In the precision of its weights, also under autocast (spec detector 10, step 3)."""
        with torch.autocast(tokens.device.type, enabled=False):
            hidden = F.relu(self.linear1(tokens.to(self.linear1.bias.dtype)))
            return self.dropout(self.linear2(self.dropout(hidden)))
