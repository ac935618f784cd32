"""Small Labelme folders for tests: whole ones (:func:`write_labelme_folder`), single pairs (:func:`write_pair`), and
what becomes of them (:func:`run`)."""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam3.data.labelme_conversion import LabelmeOptions, convert
from sam3.data.labelme_report import ConversionReport

SQUARE = [(2, 2), (9, 2), (9, 9), (2, 9)]


def shape(label: str, points: Sequence[Sequence[float]], shape_type: str = "polygon", **more: Any) -> dict[str, Any]:
    """One Labelme shape; ``more`` overrides or adds keys (``group_id``, ``mask``)."""
    return {
        "label": label,
        "points": [list(point) for point in points],
        "group_id": None,
        "description": "",
        "shape_type": shape_type,
        "flags": {},
        "mask": None,
    } | more


def mask_shape(label: str, mask: np.ndarray, x: int, y: int, **more: Any) -> dict[str, Any]:
    """A Labelme mask whose box starts at pixel (``x``, ``y``)."""
    height, width = mask.shape
    corners = [[x, y], [x + width - 1, y + height - 1]]
    return shape(label, corners, "mask", **({"mask": png_base64(mask.astype(np.uint8) * 255)} | more))


def png_base64(pixels: np.ndarray) -> str:
    """Base64 text of a PNG with ``pixels`` (H, W) or (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def picture(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8, smooth, different for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write_pair(
    folder: Path,
    name: str,
    shapes: Sequence[dict[str, Any]],
    *,
    pixels: np.ndarray | None = None,
    embedded: bool = False,
    **keys: Any,
) -> Path:
    """Write image ``name`` (its suffix decides the format) and its Labelme JSON into ``folder``.

    Args:
        pixels: of the image; :func:`picture` if not given.
        embedded: put the image into ``imageData`` instead of a file.
        keys: override or add keys of the JSON; a key given as ``...`` is left out.

    Returns:
        Path of the JSON file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixels = picture() if pixels is None else pixels
    if not embedded:
        Image.fromarray(pixels).save(folder / name)
    document = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": name,
        "imageData": png_base64(pixels) if embedded else None,
        "imageHeight": pixels.shape[0],
        "imageWidth": pixels.shape[1],
    } | keys
    path = (folder / name).with_suffix(".json")
    document = {key: value for key, value in document.items() if value is not ...}
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def write_labelme_folder(
    path: Path,
    *,
    num_images: int = 6,
    labels: Sequence[str] = ("cat", "dog"),
    num_negatives: int = 2,
    size: tuple[int, int] = (48, 64),
    seed: int = 0,
) -> Path:
    """A valid flat folder: ``num_images`` pictures with one polygon or rectangle each of two labels in turn, then
    ``num_negatives`` pictures without shapes; the object of each label is painted in a colour of its own.

    Args:
        size: (H, W) of every picture.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    for index in range(num_images + num_negatives):
        pixels = picture(height, width, seed=seed * 1000 + index).copy()
        shapes = []
        if index < num_images:
            for place in range(min(2, len(labels))):
                label = (index + place) % len(labels)
                x0, y0 = rng.integers(1, width // 4) + place * width // 2, rng.integers(1, height // 4)
                x1, y1 = x0 + rng.integers(width // 8, width // 4), y0 + rng.integers(height // 4, height // 2)
                pixels[y0:y1, x0:x1] = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)][label % 4]
                corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)] if place == 0 else [(x1, y1), (x0, y0)]
                corners = [(float(x), float(y)) for x, y in corners]
                shapes.append(shape(labels[label], corners, "polygon" if place == 0 else "rectangle"))
        write_pair(path, f"image_{index:03d}.jpg", shapes, pixels=pixels)
    return path


def run(folder: Path, output: Path, **options: Any) -> ConversionReport:
    """Convert ``folder`` with the options of :class:`LabelmeOptions`."""
    return convert(LabelmeOptions(folder, output, **options))


def document(output: Path, split: str) -> dict[str, Any]:
    """The COCO document of one side."""
    return json.loads((output / split / "annotations.json").read_text(encoding="utf-8"))


def names_of(output: Path, split: str) -> list[str]:
    """The pictures of one side."""
    return [entry["file_name"] for entry in document(output, split)["images"]]


def digest_of(folder: Path) -> dict[str, str]:
    """A digest of every file, by its place."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
