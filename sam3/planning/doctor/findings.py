"""What the doctor can find: one code per kind of defect, how bad it is, and what ``--fix`` does about it."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

EntryKind = Literal["images", "annotations", "categories"]


class Severity(StrEnum):
    """How bad a finding is.

    ``ERROR``: training stops, or learns or measures something wrong. ``WARNING``: training runs, but something is lost
    or doubtful. ``INFO``: worth knowing, usually intended.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Defect:
    """One kind of defect."""

    severity: Severity
    meaning: str
    repair: str | None = None  # what --fix does where it can; None = it needs a person


@dataclass(frozen=True)
class Drop:
    """Leave an entry out; with an image go its annotations."""

    kind: EntryKind
    index: int

    def __str__(self) -> str:
        return f"{self.kind}[{self.index}] left out"


@dataclass(frozen=True)
class SetFields:
    """Give fields of an entry new values; None removes a field."""

    kind: EntryKind
    index: int
    values: dict[str, Any]

    def __str__(self) -> str:
        changes = (f"{key} removed" if value is None else f"{key} = {value}" for key, value in self.values.items())
        return f"{self.kind}[{self.index}]: {', '.join(changes)}"


@dataclass(frozen=True)
class Rescale:
    """The annotations of an image were made at another scale: bring them to the size of the file."""

    index: int  # of the image
    size: tuple[int, int]  # (height, width) of the file

    def __str__(self) -> str:
        return f"images[{self.index}] and its annotations scaled to {self.size[1]} x {self.size[0]}"


@dataclass(frozen=True)
class StripOrientation:
    """Write the picture without its EXIF orientation: the annotations were made for the pixels as they are stored."""

    index: int  # of the image

    def __str__(self) -> str:
        return f"images[{self.index}] written without its EXIF orientation"


@dataclass(frozen=True)
class UnifyCategories:
    """Give all splits one list of categories, by name."""

    def __str__(self) -> str:
        return "categories united by name, annotations renumbered"


Repair = Drop | SetFields | Rescale | StripOrientation | UnifyCategories


@dataclass(frozen=True)
class Finding:
    """One defect at one place."""

    code: str  # a key of DEFECTS
    split: str
    file: str  # the picture or the annotation file
    entry: str  # of the annotation file, such as "annotations[3] (id 4)"; empty = the file as a whole
    message: str
    repairs: tuple[Repair, ...] = ()

    @property
    def severity(self) -> Severity:
        return DEFECTS[self.code].severity

    def to_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        values = asdict(self) | {"severity": str(self.severity), "fixable": bool(self.repairs)}
        values["repairs"] = [str(repair) for repair in self.repairs]
        return values


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO
_REMOVED = "entry left out"
_FROM_MASK = "box taken from the mask; without a mask the annotation is left out"
_NO_MASK = "mask removed, box kept; without a usable box the annotation is left out"

DEFECTS: dict[str, Defect] = {
    # the files as a whole
    "split-missing": Defect(_E, "a half of the data is missing"),
    "annotations-unreadable": Defect(_E, "the annotation file is no COCO JSON"),
    "split-empty": Defect(_E, "a half of the data has no image"),
    # categories
    "no-categories": Defect(_E, "nothing to ask for"),
    "category-invalid": Defect(_E, "a category without whole-number id or name, or an id used twice", _REMOVED),
    "category-name-repeated": Defect(_W, "two categories with one name", "united"),
    "categories-differ": Defect(_E, "the splits mean different things by a category id", "united by name"),
    "class-name-differs": Defect(_E, "a class is not named as the configuration asks", "renamed where it is clear"),
    "phrase-too-long": Defect(_W, "a phrase has more tokens than the text encoder reads and is cut"),
    "class-in-one-split": Defect(_W, "a class has objects in one split only"),
    "class-without-objects": Defect(_I, "a class has no object anywhere"),
    # images
    "image-invalid": Defect(_E, "an image entry lacks id, file_name, width or height", "size read from the file"),
    "image-id-repeated": Defect(_E, "two image entries with one id", "the later one left out"),
    "image-listed-twice": Defect(_W, "two image entries name one file", "annotations joined"),
    "image-missing": Defect(_E, "the picture is not there", "spelling corrected, else entry left out"),
    "image-corrupt": Defect(_E, "the picture cannot be decoded", _REMOVED),
    "image-size-differs": Defect(_E, "the file has another size than its entry says", "scaled or corrected"),
    "image-exif-rotated": Defect(_E, "annotated without regard to the EXIF orientation", "orientation removed"),
    "image-exif-doubtful": Defect(_W, "an EXIF orientation that the size cannot confirm"),
    "image-duplicate": Defect(_E, "one file in two splits", "left out of the earlier split"),
    "image-near-duplicate": Defect(_W, "almost the same picture in two splits"),
    "image-repeated": Defect(_W, "one file twice in a split"),
    "image-without-objects": Defect(_I, "images without objects: negatives for every phrase"),
    "image-unlisted": Defect(_I, "pictures that no entry names"),
    # annotations
    "annotation-invalid": Defect(_E, "an annotation is no object or lacks image_id, category_id or bbox", _FROM_MASK),
    "annotation-id-repeated": Defect(_E, "two annotations with one id", "renumbered"),
    "annotation-without-image": Defect(_E, "belongs to an image that is not listed", _REMOVED),
    "annotation-without-category": Defect(_E, "has a category that is not listed", _REMOVED),
    "annotation-repeated": Defect(_W, "the same object annotated twice", "the later one left out"),
    "box-invalid": Defect(_E, "not [x, y, width, height] with finite numbers and sizes of 0 or more", _FROM_MASK),
    "box-empty": Defect(_W, "the box has no area inside the image; training leaves the object out", _FROM_MASK),
    "box-outside": Defect(_W, "the box leaves the image; training cuts it", "cut at the border"),
    "box-mask-disagree": Defect(_E, "box and mask are at different places", "box taken from the mask"),
    "mask-unreadable": Defect(_E, "the segmentation is neither polygons nor RLE", _NO_MASK),
    "mask-size-differs": Defect(_E, "the RLE was made for an image of another size", _NO_MASK),
    "mask-empty": Defect(_E, "the mask has no pixel; training would fill the box instead", _NO_MASK),
    "mask-degenerate": Defect(_W, "the outline encloses no area", _NO_MASK),
    "mask-missing": Defect(_W, "some objects have no mask, others have one"),
    "no-masks": Defect(_I, "no object has a mask: train with scratch.enable_segmentation=false"),
    "crowd": Defect(_W, "crowds are left out of training, and other objects of their phrase count as incomplete"),
    "too-many-objects": Defect(_W, "more objects of one class in an image than are trained (max_ann_per_img)"),
}
