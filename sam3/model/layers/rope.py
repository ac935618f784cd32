"""Two-dimensional rotary position embedding, the only one of the model (spec detector 5; arXiv 2104.09864)."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=16)
def rotary_table(height: int, width: int, head_dim: int, *, window: int, theta: float, device: torch.device) -> Tensor:
    """(height * width, head_dim / 2) complex64 rotations of a row-major grid.

    The first half of the pairs turns with the column, the second with the row. Coordinates are scaled
    by ``window / side``, so that every grid spans the range of one window.
    """
    # Cached tensors must be usable by autograd even if the first caller runs in inference mode.
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        step = torch.arange(head_dim // 4, dtype=torch.float32)
        frequencies = 1.0 / theta ** (4 * step / head_dim)
        rows = torch.arange(height, dtype=torch.float32) * (window / height)
        columns = torch.arange(width, dtype=torch.float32) * (window / width)
        column_angles = (columns[:, None] * frequencies).expand(height, width, -1)
        row_angles = (rows[:, None] * frequencies)[:, None].expand(height, width, -1)
        angles = torch.cat([column_angles, row_angles], -1).flatten(0, 1)
        return torch.polar(torch.ones_like(angles), angles).to(device)


def apply_rotary(x: Tensor, table: Tensor) -> Tensor:
    """Rotate adjacent channel pairs.

    Args:
        x: (B, tokens, ..., head_dim), any floating dtype.
        table: (tokens, head_dim / 2) complex64.

    Returns:
        Same shape and dtype; computed in float32.
    """
    table = table.reshape(table.shape[0], *[1] * (x.dim() - 3), table.shape[1])
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2).to(x.dtype)
