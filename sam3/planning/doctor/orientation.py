"""A picture without its EXIF orientation, its pixels untouched."""

import struct
from pathlib import Path

from PIL import Image

from sam3.io.files import atomic_path

_APP1, _START_OF_SCAN = 0xE1, 0xDA
_EXIF = b"Exif\x00\x00"


def write_as_stored(source: Path, folder: Path, name: str) -> str:
    """Write the pixels of ``source`` as they are stored to ``folder / name``; returns the name.

    A JPEG loses its EXIF segment and nothing else; any other format becomes a PNG, which loses nothing either.
    """
    data = source.read_bytes()
    if data[:2] == b"\xff\xd8":
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(without_exif(data))
        return name
    name = Path(name).with_suffix(".png").as_posix()
    with atomic_path(folder / name) as temporary, Image.open(source) as image:
        pixels = image.copy()
        pixels.info.clear()
        pixels.save(temporary, format="PNG")
    return name


def without_exif(jpeg: bytes) -> bytes:
    """The JPEG without its EXIF segments; the compressed pixels are not touched."""
    kept, position = [jpeg[:2]], 2
    while position + 4 <= len(jpeg) and jpeg[position] == 0xFF and jpeg[position + 1] != _START_OF_SCAN:
        (length,) = struct.unpack(">H", jpeg[position + 2 : position + 4])
        segment = jpeg[position : position + 2 + length]
        if not (segment[1] == _APP1 and segment[4:10] == _EXIF):
            kept.append(segment)
        position += 2 + length
    return b"".join([*kept, jpeg[position:]])
