"""What was found in one image, as kept in memory and in the per-image JSON file."""

from dataclasses import dataclass, field
from typing import Any

from sam3.eval.prediction_file import DECIMALS
from sam3.structures import FoundObject

_IMAGE_KEYS = ("image_id", "name", "file_name", "source", "width", "height")


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
        return image | {"objects": [_object_to_dict(found) for found in self.objects]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ImageResult":
        image = {key: values[key] for key in _IMAGE_KEYS}
        return cls(**image, objects=[_object_from_dict(found) for found in values["objects"]])


def _object_to_dict(found: FoundObject) -> dict[str, Any]:
    return {
        "label": found.label,
        "score": round(found.score, DECIMALS),
        "box_xyxy": [round(value, DECIMALS) for value in found.box],
        "segmentation": found.segmentation,
    }


def _object_from_dict(values: dict[str, Any]) -> FoundObject:
    return FoundObject(values["label"], values["score"], tuple(values["box_xyxy"]), values["segmentation"])
