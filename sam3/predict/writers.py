"""The files of a run that people and other tools open.

Each writer turns one :class:`ImageResult` into the files of one image; :func:`write_coco` joins all images. The
files of one image lie in a folder per kind, under the image's name:

    overlays/<name>.jpg        picture with masks, outlines, boxes, labels
    masks/<name>/001_<label>.png   one 8-bit mask per object (0 and 255). Objects of different phrases may overlap,
                               so one indexed picture could not hold them; numbers are positions in the JSON list
    labelme/<name>.json        polygons to edit in Labelme; reads the original image, which is not copied
"""

import json
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam3.data.labelme_document import labelme_document, labelme_shape
from sam3.eval.prediction_file import DECIMALS, result_record
from sam3.io.files import atomic_path, write_json
from sam3.io.overlay import Colour, draw_overlay
from sam3.ops import rle
from sam3.ops.contours import mask_polygons, simplify_polygon
from sam3.predict.inputs import path_from
from sam3.predict.results import ImageResult
from sam3.structures import FoundObject

COCO_RESULTS = "coco_predictions.json"
COCO_IMAGES = "coco_images.json"
MIN_POLYGON_IOU = 0.97  # of a mask with its simplified polygons; below, the polygons are traced more finely


class ResultWriter(Protocol):
    """Writes one kind of file for one image."""

    def paths(self, result: ImageResult) -> list[Path]:
        """Every file that belongs to ``result``."""
        ...

    def write(self, result: ImageResult, image: Image.Image) -> None:
        """Write the files of ``result``, each whole or not at all; ``image`` is upright RGB."""
        ...


class OverlayWriter:
    """``overlays/<name>.jpg``."""

    def __init__(self, root: Path, colours: dict[str, Colour]) -> None:
        self.root = root / "overlays"
        self.colours = colours

    def paths(self, result: ImageResult) -> list[Path]:
        return [self.root / f"{result.name}.jpg"]

    def write(self, result: ImageResult, image: Image.Image) -> None:
        with atomic_path(self.paths(result)[0]) as temporary:
            draw_overlay(image, result.objects, self.colours).save(temporary, quality=92)


class MaskWriter:
    """``masks/<name>/<number>_<label>.png``; an image without objects has no folder."""

    def __init__(self, root: Path) -> None:
        self.root = root / "masks"

    def paths(self, result: ImageResult) -> list[Path]:
        return [
            self.root / result.name / f"{number:03d}_{name_of_file(found.label)}.png"
            for number, found in enumerate(result.objects, start=1)
            if found.segmentation is not None
        ]

    def write(self, result: ImageResult, image: Image.Image) -> None:
        self._remove_earlier(result)
        with_mask = [found for found in result.objects if found.segmentation is not None]
        for path, found in zip(self.paths(result), with_mask, strict=True):
            with atomic_path(path) as temporary:
                mask_picture(found, image.size).save(temporary, compress_type=zlib.Z_RLE)  # small, and twice as fast

    def _remove_earlier(self, result: ImageResult) -> None:
        """Masks of an earlier run of this image; there may have been more of them."""
        for path in (self.root / result.name).glob("[0-9][0-9][0-9]*_*.png"):
            path.unlink()


def mask_picture(found: FoundObject, size: tuple[int, int]) -> Image.Image:
    """An 8-bit picture of ``size`` (width, height): 255 inside the mask, 0 outside."""
    picture = Image.new("L", size)
    cutout = found.cutout()
    if cutout is not None:
        mask, corner = cutout
        picture.paste(Image.fromarray(mask.astype(np.uint8) * 255), corner)
    return picture


class LabelmeWriter:
    """``labelme/<name>.json``; an object of several parts becomes several polygons with one ``group_id``."""

    def __init__(self, root: Path, *, tolerance: float = 1.5) -> None:
        """``tolerance``: how far, in pixels, a polygon may run beside the mask's edge; 0 = exact."""
        self.output = root
        self.root = root / "labelme"
        self.tolerance = tolerance

    def paths(self, result: ImageResult) -> list[Path]:
        return [self.root / f"{result.name}.json"]

    def write(self, result: ImageResult, image: Image.Image) -> None:
        path = self.paths(result)[0]
        shapes = [
            shape
            for number, found in enumerate(result.objects, start=1)
            for shape in labelme_shapes(found, number, tolerance=self.tolerance)
        ]
        source = path_from(path.parent, self.output / result.source)
        document = labelme_document(shapes, image_path=source, image_size=(result.height, result.width))
        write_json(path, document, indent=2)


def labelme_shapes(found: FoundObject, number: int, *, tolerance: float) -> list[dict[str, Any]]:
    """Shapes of one object: its polygons, or its box when the model gives no masks; none for an empty mask.

    ``number`` becomes the ``group_id`` where several polygons form one object.
    """
    mask = found.mask()
    if mask is None:
        x0, y0, x1, y1 = (round(value, 2) for value in found.box)
        outlines, kind = [[[x0, y0], [x1, y1]]], "rectangle"
    else:
        outlines, kind = [polygon.tolist() for polygon in close_polygons(mask, tolerance)], "polygon"
    return [
        labelme_shape(
            found.label,
            outline,
            kind,
            group_id=number if len(outlines) > 1 else None,
            description=f"score {found.score:.3f}",
        )
        | {"score": round(found.score, DECIMALS)}
        for outline in outlines
    ]


def close_polygons(mask: NDArray[np.bool_], tolerance: float) -> list[NDArray]:
    """Polygons of ``mask`` with few points; the tolerance is halved until they cover the mask well, at last exact."""
    exact = mask_polygons(mask)
    encoded = rle.encode(mask)
    while tolerance >= 0.25 and exact:
        simple = [simplify_polygon(polygon, tolerance) for polygon in exact]
        covered = rle.from_polygons([polygon.astype(float).ravel().tolist() for polygon in simple], *mask.shape)
        if rle.iou(encoded, covered) >= MIN_POLYGON_IOU:
            return simple
        tolerance /= 2
    return [simplify_polygon(polygon, 0) for polygon in exact]


def write_coco(root: Path, results: Iterable[ImageResult], labels: Sequence[str]) -> None:
    """``coco_predictions.json`` (result records) and ``coco_images.json`` (the images and categories they refer to).

    Categories are numbered from 1 in the order of ``labels``. Boxes are ``[x, y, w, h]`` in pixels, masks
    compressed RLE. ``COCO("coco_images.json").loadRes("coco_predictions.json")`` reads the pair.
    """
    categories = {label: number for number, label in enumerate(labels, start=1)}
    images = []
    with atomic_path(root / COCO_RESULTS) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.write("[")
        separator = "\n"
        for result in results:
            images.append(
                {
                    "id": result.image_id,
                    "file_name": result.file_name,
                    "width": result.width,
                    "height": result.height,
                }
            )
            for found in result.objects:
                record = _coco_record(found, result.image_id, categories[found.label])
                stream.write(separator + json.dumps(record, allow_nan=False))
                separator = ",\n"
        stream.write("\n]\n")
    listing = {
        "info": {"description": "images and categories of the predictions beside this file"},
        "images": images,
        "annotations": [],
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
    }
    write_json(root / COCO_IMAGES, listing, indent=1)


def _coco_record(found: FoundObject, image_id: int, category_id: int) -> dict[str, Any]:
    """``area`` is in pixels."""
    return result_record(
        image_id=image_id,
        category_id=category_id,
        score=found.score,
        box_xyxy=found.box,
        segmentation=found.segmentation,
        area=None if found.segmentation is None else rle.area(found.segmentation),
    )


def name_of_file(label: str) -> str:
    """A label as part of a file name: letters and digits of any script, the rest as dashes."""
    return re.sub(r"[^\w.]+", "-", label).strip("-.")[:40] or "object"
