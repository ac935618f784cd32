"""What is computed once per image and once per phrase."""

import torch
from torch import Tensor, nn

from sam3.config import ModelConfig
from sam3.model.frozen import learns
from sam3.model.layers.position import encode_map
from sam3.model.text.encoder import TextEncoder
from sam3.model.vision.neck import FeaturePyramid
from sam3.model.vision.trunk_cache import TrunkCache
from sam3.model.vision.vit import ViT
from sam3.structures import ImageFeatures


class Backbone(nn.Module):
    """The image and the text side, which know nothing of each other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.vision_backbone = VisionBackbone(config)
        self.language_backbone = TextEncoder(config.text, config.detector.d_model)


class VisionBackbone(nn.Module):
    """Trunk and pyramids: ``convs`` for the detector, ``sam2_convs`` for the tracker and click model."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.d_model = config.detector.d_model
        self.trunk = ViT(config.vision)
        self.trunk_cache: TrunkCache | None = None  # of a trunk that does not learn
        self.convs = FeaturePyramid(config.neck, config.vision.embed_dim, self.d_model)
        if config.neck.second_neck:
            self.sam2_convs = FeaturePyramid(config.neck, config.vision.embed_dim, self.d_model)
        else:
            self.sam2_convs = None

    def forward(self, images: Tensor) -> ImageFeatures:
        """(B, 3, H, W) normalised -> features at 4, 2 and 1 times the token grid."""
        x = self._map(images)
        pyramid = self.convs(x)
        positions = self._positions(pyramid)
        if self.sam2_convs is None:
            return ImageFeatures(pyramid=pyramid, positions=positions)
        return ImageFeatures(
            pyramid=pyramid, positions=positions, second_pyramid=self.sam2_convs(x), second_positions=positions
        )

    def encode_second(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> the tracker's pyramid alone."""
        return self.sam2_convs(self._map(images))

    def _map(self, images: Tensor) -> Tensor:
        return self.trunk(images) if learns(self.trunk) else self._frozen_map(images)

    def _frozen_map(self, images: Tensor) -> Tensor:
        """The trunk's map without a graph, image by image.

        Beside others, an image could get other last bits; so its map is the same in any batch, and from the cache.
        """
        encode = self.trunk if self.trunk_cache is None else lambda image: self.trunk_cache.encode(self.trunk, image)
        with torch.no_grad():
            return torch.cat([encode(image.clone()) for image in images.split(1)])

    def _positions(self, pyramid: list[Tensor]) -> list[Tensor]:
        return [encode_map(*level.shape[-2:], self.d_model, level.device, level.dtype) for level in pyramid]
