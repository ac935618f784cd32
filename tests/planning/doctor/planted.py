"""A clean data set, and one function for each defect that a person could have put into it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.data.coco_folder import write_coco_folder

CLASSES = ("red circle", "green square", "blue triangle")
LONG = " ".join(["a very small shiny hexagonal steel bolt with a long thread"] * 4)

PLANTED: dict[str, Callable[["Folder"], str | None]] = {}  # code of the defect -> what puts it there


class Folder:
    """A copy of a clean data set in the course of being damaged; every change takes a picture of its own."""

    def __init__(self, path: Path, clean: Path) -> None:
        self.path = Path(shutil.copytree(clean, path))
        self.documents = {split: json.loads(self.file(split).read_text()) for split in ("train", "val")}
        self.used: set[int] = set()

    def file(self, split: str) -> Path:
        return self.path / split / "annotations.json"

    def picture(self, image: dict[str, Any], split: str = "train") -> Path:
        return self.path / split / "images" / image["file_name"]

    def save(self) -> None:
        for split, document in self.documents.items():
            self.file(split).write_text(json.dumps(document), encoding="utf-8")

    def annotation(self) -> dict[str, Any]:
        """One of a training picture that nothing else was done to; never the only kind of its class."""
        for entry in self.documents["train"]["annotations"]:
            if entry["image_id"] not in self.used:
                self.used.add(entry["image_id"])
                return entry
        raise AssertionError("the folder is too small")

    def image(self) -> dict[str, Any]:
        return self.image_of(self.annotation())

    def image_of(self, annotation: dict[str, Any]) -> dict[str, Any]:
        return next(i for i in self.documents["train"]["images"] if i["id"] == annotation["image_id"])

    def annotations_of(self, image: dict[str, Any]) -> list[dict[str, Any]]:
        return [a for a in self.documents["train"]["annotations"] if a["image_id"] == image["id"]]


def write_clean(path: Path, images: int) -> Path:
    """A clean data set with 6 pictures to validate with."""
    return write_coco_folder(path, images=images, val_images=6, classes=CLASSES, size=(64, 80), max_objects=2)


def plants(code: str):
    """Register the function that plants a defect; it returns what the finding must name."""

    def register(function):
        PLANTED[code] = function
        return function

    return register


@plants("image-missing")
def _(folder: Folder) -> str:
    image = folder.image()
    folder.picture(image).unlink()
    return image["file_name"]


@plants("image-corrupt")
def _(folder: Folder) -> str:
    path = folder.picture(folder.image())
    path.write_bytes(path.read_bytes()[:-400])
    return path.name


@plants("image-size-differs")
def _(folder: Folder) -> str:
    image = folder.image()
    path = folder.picture(image)
    Image.open(path).resize((40, 32)).save(path)
    return path.name


@plants("image-exif-rotated")
def _(folder: Folder) -> str:
    image = folder.image()
    old = folder.picture(image)
    image["file_name"] = "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(old).save(old.with_name("turned.jpg"), quality=95, exif=exif)
    old.unlink()
    return "turned.jpg"


@plants("mask-empty")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    entry["segmentation"] = {"size": [64, 80], "counts": [64 * 80]}
    return f"(id {entry['id']})"


@plants("mask-degenerate")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    entry["segmentation"] = [[10.0, 10.0, 20.0, 20.0, 30.0, 30.0]]
    return f"(id {entry['id']})"


@plants("mask-unreadable")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    entry["segmentation"] = {"size": [64, 80], "counts": "this is no RLE"}
    return f"(id {entry['id']})"


@plants("mask-size-differs")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    entry["segmentation"] = {"size": [80, 64], "counts": [100, 50, 80 * 64 - 150]}
    return f"(id {entry['id']})"


@plants("box-outside")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    entry["bbox"] = [-20.0, *entry["bbox"][1:2], entry["bbox"][0] + entry["bbox"][2] + 20.0, entry["bbox"][3]]
    entry["segmentation"] = []
    return f"(id {entry['id']})"


@plants("box-mask-disagree")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    x, y, w, h = entry["bbox"]  # 13 pixels a side at most
    entry["bbox"] = [x - 8.0 if x > 8 else x + 8.0, y, w, h]
    return f"(id {entry['id']})"


@plants("box-empty")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    entry["bbox"] = [200.0, 10.0, 20.0, 20.0]
    return f"(id {entry['id']})"


@plants("box-invalid")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    entry["bbox"] = [10.0, 10.0, -5.0, 20.0]
    return f"(id {entry['id']})"


@plants("image-duplicate")
def _(folder: Folder) -> str:
    image = folder.image()
    folder.picture(folder.documents["val"]["images"][0], "val").write_bytes(folder.picture(image).read_bytes())
    return image["file_name"]


@plants("image-near-duplicate")
def _(folder: Folder) -> str:
    image, other = folder.image(), folder.documents["val"]["images"][1]
    folder.picture(other, "val").unlink()
    other["file_name"] = "again.jpg"
    Image.open(folder.picture(image)).save(folder.picture(other, "val"), quality=92)
    return image["file_name"]


@plants("annotation-id-repeated")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    entry["id"] = folder.annotation()["id"]
    return f"(id {entry['id']})"


@plants("annotation-without-image")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    copy = entry | {"id": 9001, "image_id": 777}
    folder.documents["train"]["annotations"].append(copy)
    return "(id 9001)"


@plants("annotation-without-category")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    folder.documents["train"]["annotations"].append(entry | {"id": 9002, "category_id": 88})
    return "(id 9002)"


@plants("annotation-invalid")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    del entry["bbox"]
    return f"(id {entry['id']})"


@plants("annotation-repeated")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    folder.documents["train"]["annotations"].append(entry | {"id": 9003})
    return "(id 9003)"


@plants("image-id-repeated")
def _(folder: Folder) -> str:
    image, other = folder.image(), folder.image()
    new = dict(other)
    Image.open(folder.picture(other)).rotate(180).save(folder.picture(other).with_name("second.png"))
    folder.documents["train"]["images"].append(new | {"file_name": "second.png", "id": image["id"]})
    return "second.png"


@plants("image-invalid")
def _(folder: Folder) -> str:
    image = folder.image()
    del image["width"]
    return image["file_name"]


@plants("image-listed-twice")
def _(folder: Folder) -> str:
    image = folder.image()
    folder.documents["train"]["images"].append(image | {"id": 5001})
    annotation = folder.annotations_of(image)[0]
    annotation["image_id"] = 5001
    return image["file_name"]


@plants("crowd")
def _(folder: Folder) -> str:
    entry = folder.annotation()
    entry["iscrowd"] = 1
    return f"(id {entry['id']})"


@plants("image-unlisted")
def _(folder: Folder) -> str:
    Image.new("RGB", (80, 64), "white").save(folder.path / "train" / "images" / "forgotten.png")
    return "forgotten.png"


@plants("categories-differ")
def _(folder: Folder) -> str:
    categories = folder.documents["val"]["categories"]
    categories[0]["id"], categories[1]["id"] = categories[1]["id"], categories[0]["id"]
    return "val has categories"


@plants("class-in-one-split")
def _(folder: Folder) -> str:
    for split in ("train", "val"):
        folder.documents[split]["categories"].append({"id": 40, "name": "yellow square"})
    entry = folder.annotation()
    entry["category_id"] = 40
    return "yellow square"


@plants("class-without-objects")
def _(folder: Folder) -> str:
    for split in ("train", "val"):
        folder.documents[split]["categories"].append({"id": 41, "name": "purple cow"})
    return "purple cow"


@plants("phrase-too-long")
def _(folder: Folder) -> str:
    for split in ("train", "val"):
        folder.documents[split]["categories"][2]["name"] = LONG
    return "the text encoder reads 32"


@plants("class-name-differs")
def _(folder: Folder) -> str:
    for split in ("train", "val"):
        folder.documents[split]["categories"][0]["name"] = "Red_Circle"
    return "'Red_Circle'"
