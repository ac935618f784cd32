"""What was found in one image, as kept in memory and in the per-image JSON file."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam3.eval.prediction_file import DECIMALS
from sam3.ops import rle

_IMAGE_KEYS = ("image_id", "name", "file_name", "source", "width", "height")


@dataclass(frozen=True)
class FoundObject:
    """One object. Pixels are those of the image as it is shown (EXIF orientation applied)."""

    label: str  # class name, or the phrase itself
    score: float  # in [0, 1]
    box: tuple[float, float, float, float]  # xyxy, pixels, not clipped to the image
    segmentation: rle.Rle | None  # None: the model has no segmentation head

    def mask(self) -> NDArray[np.bool_] | None:
        """(H, W), True inside."""
        return None if self.segmentation is None else rle.decode(self.segmentation)

    def cutout(self) -> tuple[NDArray[np.bool_], tuple[int, int]] | None:
        """The mask cut to its extent and the upper left corner (x, y) of it; None without a mask or an empty one.

        What draws an object costs as much as the object is large, not the image.
        """
        if self.segmentation is None:
            return None
        x, y, width, height = (int(value) for value in rle.to_box_xywh(self.segmentation))
        if not width:
            return None
        return np.ascontiguousarray(rle.decode_columns(self.segmentation, x, x + width)[y : y + height]), (x, y)

    def to_dict(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "score": round(self.score, DECIMALS),
            "box_xyxy": [round(value, DECIMALS) for value in self.box],
            "segmentation": self.segmentation,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FoundObject":
        return cls(values["label"], values["score"], tuple(values["box_xyxy"]), values["segmentation"])


@dataclass(frozen=True)
class ImageResult:
    """All objects of one image, phrase by phrase, best first."""

    image_id: int  # of the COCO files
    name: str  # of the output files, without suffix; may hold folders
    file_name: str  # relative to the folder that was given
    source: str  # path of the image as seen from the output folder
    width: int
    height: int
    objects: list[FoundObject] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        image = {key: getattr(self, key) for key in _IMAGE_KEYS}
        return image | {"objects": [found.to_dict() for found in self.objects]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ImageResult":
        image = {key: values[key] for key in _IMAGE_KEYS}
        return cls(**image, objects=[FoundObject.from_dict(found) for found in values["objects"]])
