"""A frame and the mask found in it -> a memory map (spec/tracker_video.md 2.7)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3.config import TrackerConfig
from sam3.model.layers.norm import LayerNorm2d


class MemoryEncoder(nn.Module):
    """Attribute names are the keys of the released weights."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        width = config.d_model
        self.mask_downsampler = MaskDownsampler(width, config.memory_mask_size)
        self.pix_feat_proj = nn.Conv2d(width, width, 1)
        self.fuser = Fuser(width, config.fuser_layers, config.fuser_kernel)
        self.out_proj = nn.Conv2d(width, config.memory_dim, 1)

    def forward(self, image: Tensor, masks: Tensor) -> Tensor:
        """
        Args:
            image: (B or 1, C, h, w), the raw top level of the tracker's pyramid.
            masks: (B, 1, H, W), scaled to -10 .. 10.

        Returns:
            (B, Cm, h, w).
        """
        encoded = self.mask_downsampler(masks.to(self.out_proj.weight.dtype))
        return self.out_proj(self.fuser(self.pix_feat_proj(image) + encoded))


class MaskDownsampler(nn.Module):
    """Four halvings of the mask, to the grid of the image embedding."""

    def __init__(self, width: int, mask_size: int) -> None:
        super().__init__()
        self.mask_size = mask_size
        channels = [1, 4, 16, 64, 256]
        layers: list[nn.Module] = []
        for given, made in zip(channels, channels[1:], strict=False):
            layers += [nn.Conv2d(given, made, 3, 2, 1), LayerNorm2d(made), nn.GELU()]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(channels[-1], width, 1))

    def forward(self, masks: Tensor) -> Tensor:
        """(B, 1, H, W) of any size -> (B, C, mask_size / 16, mask_size / 16)."""
        size = (self.mask_size, self.mask_size)
        if masks.shape[-2:] != size:
            resized = F.interpolate(masks.float(), size, mode="bilinear", align_corners=False, antialias=True)
            masks = resized.to(masks.dtype)
        return self.encoder(masks)


class Fuser(nn.Module):
    """ConvNeXt blocks."""

    def __init__(self, width: int, num_layers: int, kernel: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConvNextBlock(width, kernel) for _ in range(num_layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        for layer in self.layers:
            x = layer(x)
        return x


class ConvNextBlock(nn.Module):
    """Depthwise convolution, norm, two linear layers, scale, residual (arXiv 2201.03545)."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))
        self.dwconv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = LayerNorm2d(width)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)
