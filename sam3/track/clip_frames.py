"""The objects of one frame, as they come from the network and as they lie in the journal of a clip."""

from dataclasses import dataclass
from typing import Any

from sam3.eval.prediction_file import DECIMALS
from sam3.model.sam3_video_predictor import TrackedVideoFrame
from sam3.ops import rle
from sam3.structures import FoundObject


@dataclass(frozen=True)
class ClipObject:
    """One object on one frame."""

    obj_id: int
    found: FoundObject

    @property
    def title(self) -> str:
        """What is written on it."""
        return f"{self.obj_id} {self.found.label}"

    @property
    def area(self) -> int:
        """Pixels."""
        return rle.area(self.found.segmentation)


@dataclass(frozen=True)
class ClipFrame:
    """All objects of one frame, by rising id."""

    index: int
    size: tuple[int, int]  # (height, width), pixels
    objects: list[ClipObject]

    @classmethod
    def of(cls, frame: TrackedVideoFrame) -> "ClipFrame":
        """Masks compressed, boxes tight around them."""
        objects = []
        for obj_id, label, score, mask in zip(frame.ids, frame.labels, frame.scores, frame.masks, strict=True):
            runs = rle.encode(mask)
            x, y, width, height = rle.to_box_xywh(runs)
            found = FoundObject(label, round(float(score), DECIMALS), (x, y, x + width, y + height), runs)
            objects.append(ClipObject(obj_id, found))
        return cls(frame.index, frame.masks.shape[1:], objects)

    def to_dict(self) -> dict[str, Any]:
        return {
            "frame": self.index,
            "size": list(self.size),
            "objects": [
                {
                    "id": item.obj_id,
                    "phrase": item.found.label,
                    "score": item.found.score,
                    "box_xyxy": list(item.found.box),
                    "segmentation": item.found.segmentation,
                }
                for item in self.objects
            ],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ClipFrame":
        return cls(
            values["frame"],
            tuple(values["size"]),
            [
                ClipObject(
                    item["id"],
                    FoundObject(item["phrase"], item["score"], tuple(item["box_xyxy"]), item["segmentation"]),
                )
                for item in values["objects"]
            ],
        )
