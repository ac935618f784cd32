"""Pool a region of a feature map to a fixed grid.

Bilinear interpolation and averaging are separable, so a pooled region is two small matrix
products, ``rows @ features @ columns``; no sample is ever stored per channel.
"""

import torch
from torch import Tensor


def roi_align(features: Tensor, boxes: Tensor, image_index: Tensor, output_size: int) -> Tensor:
    """Mean of bilinear samples in each cell of an ``output_size`` x ``output_size`` grid laid over each box.

    The rules are those of RoIAlign with ``aligned=False`` and an adaptive number of samples (spec
    detector 7.3): no half-pixel shift, sides raised to one cell, ceil(side / output_size) samples per
    axis and cell; a sample more than one cell outside counts as zero, a nearer one is moved to the border.

    Args:
        features: (B, C, H, W).
        boxes: (N, 4) xyxy in cells of the map (0..W, 0..H); may leave it.
        image_index: (N,) long, row of ``features`` of each box.
        output_size: cells a side of the result.

    Returns:
        (N, C, output_size, output_size), dtype of ``features``; computed in float32, also under autocast.
    """
    height, width = features.shape[-2:]
    boxes, pixels = boxes.float(), features.float()
    rows = _axis_weights(boxes[:, 1], boxes[:, 3], height, output_size)
    columns = _axis_weights(boxes[:, 0], boxes[:, 2], width, output_size)
    with torch.autocast(features.device.type, enabled=False):
        if len(pixels) == 1:
            pooled_rows = torch.einsum("nih,chw->nciw", rows, pixels[0])
        else:
            pooled_rows = torch.einsum("nih,nchw->nciw", rows, pixels[image_index])
        return torch.einsum("nciw,njw->ncij", pooled_rows, columns).to(features.dtype)


def _axis_weights(start: Tensor, end: Tensor, length: int, cells: int) -> Tensor:
    """(N, cells, length): the weight of each map position in each cell's mean, along one axis."""
    if len(start) == 0:
        return start.new_zeros(0, cells, length)
    side = (end - start).clamp(min=1)
    samples = (side / cells).ceil()
    sample = torch.arange(int(samples.max()), device=start.device)
    cell = torch.arange(cells, device=start.device)
    within = (sample + 0.5) / samples[:, None]
    position = start[:, None, None] + (cell[:, None] + within[:, None]) * (side / cells)[:, None, None]
    counted = (sample < samples[:, None])[:, None] & (position >= -1) & (position <= length)
    grid = torch.arange(length, device=start.device)
    hat = (1 - (position.clamp(0, length - 1)[..., None] - grid).abs()).clamp(min=0)
    return (hat * counted[..., None]).sum(2) / samples[:, None, None]
