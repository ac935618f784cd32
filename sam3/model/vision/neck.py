"""A pyramid of maps from the trunk's single map (spec detector 6.1)."""

import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import NeckConfig
from sam3.errors import ConfigError


class FeaturePyramid(nn.ModuleList):
    """One branch per scale factor; they share nothing but their input."""

    def __init__(self, config: NeckConfig, in_channels: int, out_channels: int) -> None:
        super().__init__(PyramidLevel(scale, in_channels, out_channels) for scale in config.scale_factors)
        self.num_used = len(config.scale_factors) - config.dropped_levels

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, D, h, w) -> the used levels, fine to coarse, each (B, C, h * scale, w * scale).

        The dropped levels have weights in the released file, but nothing reads what they would compute.
        """
        return [level(x) for level in list(self)[: self.num_used]]


class PyramidLevel(nn.Module):
    """Resample by ``scale``, then 1x1 and 3x3 convolutions."""

    def __init__(self, scale: float, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if scale not in (4.0, 2.0, 1.0, 0.5):
            raise ConfigError(f"neck.scale_factors: {scale} is not supported; choose from 4, 2, 1, 0.5")
        self.scale = scale
        half, quarter = in_channels // 2, in_channels // 4
        if scale == 4.0:
            self.dconv_2x2_0 = nn.ConvTranspose2d(in_channels, half, 2, 2)
            self.dconv_2x2_1 = nn.ConvTranspose2d(half, quarter, 2, 2)
        elif scale == 2.0:
            self.dconv_2x2 = nn.ConvTranspose2d(in_channels, half, 2, 2)
        width = {4.0: quarter, 2.0: half}.get(scale, in_channels)
        self.conv_1x1 = nn.Conv2d(width, out_channels, 1)
        self.conv_3x3 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, C, h * scale, w * scale)."""
        if self.scale == 4.0:
            x = self.dconv_2x2_1(F.gelu(self.dconv_2x2_0(x)))
        elif self.scale == 2.0:
            x = self.dconv_2x2(x)
        elif self.scale == 0.5:
            x = F.max_pool2d(x, 2)
        return self.conv_3x3(self.conv_1x1(x))
