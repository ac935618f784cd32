"""SAM 3: promptable concept segmentation in images.

``import sam3`` is cheap: nothing heavy is loaded until a builder is asked for.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "build_sam3_image_model": "sam3.model_builder",
    "build_sam3_video_predictor": "sam3.model_builder",
    "Sam3Processor": "sam3.model.sam3_image_processor",
    "ModelConfig": "sam3.config",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sam3' has no attribute {name!r}; it offers {', '.join(__all__)}")
