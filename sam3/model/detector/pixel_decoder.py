"""From the coarsest map to the finest: upsample, add, convolve (spec detector 12.1, step 3)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import DetectorConfig
from sam3.model.layers.layer_list import LayerList


@dataclass
class SharedStage:
    """The part of a stage that does not depend on the prompt."""

    convolved: Tensor  # (B, C, h, w) the finer map, convolved
    kernel: Tensor  # (C, C, 4, 4) upsampling and convolution in one, for a transposed convolution


class PixelDecoder(nn.Module):
    """One stage per finer map.

    The released file holds one stage more than there are finer maps; it is kept and never used.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        width, stages = config.d_model, config.pixel_decoder_stages
        self.conv_layers = LayerList(nn.Conv2d(width, width, 3, padding=1) for _ in range(stages))
        self.norms = nn.ModuleList(nn.GroupNorm(config.group_norm_groups, width) for _ in range(stages))

    def forward(self, coarsest: Tensor, finer: list[Tensor]) -> Tensor:
        """Decode P prompts.

        Args:
            coarsest: (P, C, H, W).
            finer: (P or 1, C, h, w) maps, fine to coarse.

        Returns:
            (P, C, h, w) at the finest size.
        """
        x = coarsest
        for stage, level in enumerate(reversed(finer)):
            x = self.conv_layers.run(self._stage, stage, x, level)
        return x

    def _stage(self, stage: int, x: Tensor, level: Tensor) -> Tensor:
        x = level + F.interpolate(x, size=level.shape[-2:], mode="nearest")
        return F.relu(self.norms[stage](self.conv_layers[stage](x)))

    def share(self, coarsest_size: tuple[int, int], finer: list[Tensor]) -> list[SharedStage] | None:
        """Prepare :meth:`forward_shared` for images with many prompts each.

        conv(level + up(x)) = conv(level) + conv(up(x)): the first term is computed once per image, and the
        second, with its nearest upsampling by two, is a transposed convolution with under half the products.

        Args:
            coarsest_size: (H, W) of the map below the last of ``finer``.
            finer: (B, C, h, w) maps, fine to coarse.

        Returns:
            One entry per stage; None if some map is not twice as large as the next.
        """
        sizes = [coarsest_size, *(tuple(level.shape[-2:]) for level in reversed(finer))]
        if any((2 * h, 2 * w) != larger for (h, w), larger in zip(sizes, sizes[1:], strict=False)):
            return None
        return [
            SharedStage(convolved=conv(level), kernel=upsampling_kernel(conv.weight))
            for conv, level in zip(self.conv_layers, reversed(finer), strict=False)
        ]

    def forward_shared(self, coarsest: Tensor, stages: list[SharedStage], image_index: Tensor) -> Tensor:
        """:meth:`forward` from the prepared parts: (P, C, H, W), image of each prompt (P,) -> (P, C, h, w)."""
        x = coarsest
        for stage, norm in zip(stages, self.norms, strict=False):
            convolved = stage.convolved if len(stage.convolved) == 1 else stage.convolved[image_index]
            x = F.relu(norm(F.conv_transpose2d(x, stage.kernel, stride=2, padding=1) + convolved))
        return x


def upsampling_kernel(weight: Tensor) -> Tensor:
    """The transposed convolution (stride 2, padding 1) that equals nearest upsampling by two, then ``weight``.

    Args:
        weight: (C_out, C_in, 3, 3) of a convolution with padding 1.

    Returns:
        (C_in, C_out, 4, 4): the flipped weight, spread over the 2 x 2 cells of each coarse pixel.
    """
    flipped = weight.float().flip(-1, -2).transpose(0, 1)
    spread = [F.pad(flipped, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)]
    return sum(spread[1:], spread[0]).to(weight.dtype)
