"""The image of a Labelme annotation: find it, check it, write it upright.

Labelme shows, annotates and measures an image after applying its EXIF orientation, and some readers
ignore that tag. So an image with an orientation other than 1 is written anew with its pixels turned;
every other image is copied byte by byte.
"""

import hashlib
import io
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from sam3.data.labelme_reader import LabelmeFile, read_image_data
from sam3.errors import DataError
from sam3.io.images import IMAGE_SUFFIXES, reason_unreadable

_ORIENTATION = 0x0112  # the EXIF tag; 1 = upright, 2 to 8 = to be turned or mirrored
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif"}
_WRITERS = {  # format of the source -> how to write its pixels anew
    "JPEG": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "MPO": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "WEBP": {"format": "WEBP", "lossless": True},
    "TIFF": {"format": "TIFF", "compression": "tiff_deflate"},
}


@dataclass(frozen=True)
class SourceImage:
    """A readable image and where its bytes are."""

    file: Path  # the image file, or the JSON file that embeds it
    is_embedded: bool
    name: str  # file name wished for the copy
    height: int  # upright
    width: int
    is_turned: bool  # by its EXIF orientation
    digest: str  # SHA-256 of the bytes

    def read(self) -> bytes:
        """The image file's content."""
        return read_image_data(self.file) if self.is_embedded else self.file.read_bytes()

    def write(self, path: Path) -> None:
        """Write the upright image to ``path``."""
        data = self.read()
        if self.is_turned:
            _write_turned(data, path)
        else:
            path.write_bytes(data)


def annotated_image(annotation: LabelmeFile) -> SourceImage:
    """The image that ``annotation`` was drawn on, decoded once to be sure of it.

    Raises:
        DataError: it is missing, damaged, or of another size than the annotation says.
    """
    if annotation.has_image_data:
        image = _inspect(annotation.path, read_image_data(annotation.path), embedded_as=_embedded_stem(annotation))
    else:
        image = plain_image(find_image_file(annotation))
    _require_stated_size(annotation, image)
    return image


def plain_image(path: Path) -> SourceImage:
    """An image file by itself; a damaged one raises :class:`DataError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"image '{path.name}' cannot be opened: {error.strerror}") from None
    return _inspect(path, data)


def find_image_file(annotation: LabelmeFile) -> Path:
    """The file that ``imagePath`` names, relative to the annotation's folder.

    Windows separators are read as such. If the path leads nowhere, a file of that name in the annotation's folder is
    taken (upper and lower case, and Unicode forms, count as equal), then one named like the annotation itself.
    """
    folder = annotation.path.parent
    as_posix = (annotation.image_path or "").replace("\\", "/")
    for candidate in (annotation.image_path, as_posix, PurePosixPath(as_posix).name):
        if candidate and _is_file(folder / candidate):
            return folder / candidate
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    for image in images:
        if comparable_name(image.name) == comparable_name(PurePosixPath(as_posix).name):
            return image
    for image in images:
        if image.stem == annotation.path.stem:
            return image
    wanted = "it names no image" if annotation.image_path is None else f"image {annotation.image_path!r} does not exist"
    raise DataError(
        f"{wanted}, and no image '{annotation.path.stem}.*' lies beside it; put it there or mend 'imagePath'"
    )


def _inspect(file: Path, data: bytes, *, embedded_as: str | None = None) -> SourceImage:
    called = "'imageData'" if embedded_as else f"image '{file.name}'"
    try:
        with Image.open(io.BytesIO(data)) as image:
            is_turned = image.getexif().get(_ORIENTATION, 1) in range(2, 9)
            kind = image.format or ""
            image.load()  # decodes every pixel: a truncated file shows itself here
            width, height = (ImageOps.exif_transpose(image) if is_turned else image).size
    except Exception as error:  # decoders raise almost anything on damaged files
        raise DataError(f"{called} cannot be read as an image: {reason_unreadable(error)}") from None
    return SourceImage(
        file=file,
        is_embedded=embedded_as is not None,
        name=f"{embedded_as}{_SUFFIXES.get(kind, '.' + kind.lower())}" if embedded_as else file.name,
        height=height,
        width=width,
        is_turned=is_turned,
        digest=hashlib.sha256(data).hexdigest(),
    )


def _require_stated_size(annotation: LabelmeFile, image: SourceImage) -> None:
    height, width = annotation.size
    if height in (None, image.height) and width in (None, image.width):
        return
    message = (
        f"it says {width} x {height} pixels (width x height), but its image '{image.name}' has "
        f"{image.width} x {image.height}"
    )
    if image.is_turned and (height, width) == (image.width, image.height):
        raise DataError(f"{message} after its EXIF rotation; it was drawn on the unrotated image, draw it again")
    raise DataError(f"{message}; was the image resized after annotation, or is it another one?")


def _embedded_stem(annotation: LabelmeFile) -> str:
    return PurePosixPath((annotation.image_path or "").replace("\\", "/")).stem or annotation.path.stem


def _write_turned(data: bytes, path: Path) -> None:
    with Image.open(io.BytesIO(data)) as image:
        options = _WRITERS.get(image.format or "", {"format": image.format})
        upright = ImageOps.exif_transpose(image)
        upright.save(path, icc_profile=image.info.get("icc_profile"), exif=b"", **options)


def comparable_name(name: str) -> str:
    """One form for names that some file system takes for the same: upper and lower case, forms of Unicode."""
    return unicodedata.normalize("NFC", name).casefold()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long or with a null byte
        return False
