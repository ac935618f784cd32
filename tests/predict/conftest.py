"""Small pictures and made-up objects; no network."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sam3.ops import rle
from sam3.predict.results import ImageResult
from sam3.structures import FoundObject


def found_object(label: str, mask: NDArray[np.bool_], score: float = 0.9) -> FoundObject:
    """An object whose box is its mask's."""
    x, y, width, height = rle.to_box_xywh(rle.encode(mask))
    return FoundObject(label, score, (x, y, x + width, y + height), rle.encode(mask))


def disc(height: int, width: int, *, center: tuple[float, float], radius: float, hole: float = 0) -> NDArray[np.bool_]:
    """Mask of a disc or ring; ``center`` is (x, y)."""
    y, x = np.indices((height, width)) + 0.5
    distance = np.hypot(x - center[0], y - center[1])
    return (distance < radius) & (distance >= hole)


def image_result(path: Path, size: tuple[int, int], objects: list[FoundObject], image_id: int = 1) -> ImageResult:
    """Result for an image file of ``size`` (width, height)."""
    return ImageResult(
        image_id=image_id,
        name=path.stem,
        file_name=path.name,
        source=str(path),
        width=size[0],
        height=size[1],
        objects=objects,
    )


def save_picture(path: Path, size: tuple[int, int] = (40, 30), colour: tuple[int, int, int] = (90, 120, 150)) -> Path:
    """A plain picture of ``size`` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three good pictures."""
    for name in ("a.png", "b.jpg", "c.png"):
        save_picture(tmp_path / "photos" / name)
    return tmp_path / "photos"
