"""Maps of a frozen image trunk, kept on disk.

The trunk makes nine tenths of a forward pass and gives one map, (1024, 72, 72) for 1008 pixels: 20 MiB. The pyramid
behind it would take five times the room and is computed each time, so it may even learn.
"""

import hashlib
from collections.abc import Hashable

import torch
from torch import Tensor

from sam3.io.feature_store import FeatureStore
from sam3.model.frozen import autocast_state, weights_version
from sam3.model.vision.vit import ViT


class TrunkCache:
    """Looks up the map of an image by its pixels and by all that the map depends on besides.

    The key is the network input itself, so it covers file content, transforms and resolution; with it go the trunk's
    weights and shape, the precision, the kind of device and the version of torch.
    """

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self._known_version: Hashable = None
        self._weights = ""

    @torch.no_grad()
    def encode(self, trunk: ViT, image: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, D, h, w), bit by bit what ``trunk(image)`` gives."""
        key = f"{self._context(trunk, image.device)}/{_digest(image)}"
        kept = self.store.get(key)
        if kept is not None:
            return kept.to(image.device).permute(0, 3, 1, 2)
        made = trunk(image)
        self.store.put(key, made.permute(0, 2, 3, 1))  # as it lies in memory: what follows depends on that in its bits
        return made

    def _context(self, trunk: ViT, device: torch.device) -> str:
        version = weights_version(trunk)
        if version != self._known_version:
            digest = hashlib.sha256(repr(trunk.config).encode())
            for name, parameter in sorted(trunk.named_parameters()):
                digest.update(f"{name} {_digest(parameter)}".encode())
            self._known_version, self._weights = version, digest.hexdigest()
        tf32 = device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
        circumstances = f"{self._weights} {device.type} {autocast_state(device)} {tf32} {torch.__version__}"
        return hashlib.sha256(circumstances.encode()).hexdigest()[:16]


def _digest(tensor: Tensor) -> str:
    """Of shape, dtype and values."""
    tensor = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
    digest.update(memoryview(tensor.flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()
