"""Finding, checking and writing the image of an annotation."""

import base64
import io
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps

from sam3.data.labelme_images import annotated_image, find_image_file, plain_image
from sam3.data.labelme_reader import read_labelme
from sam3.errors import DataError
from tests.data.labelme_folder import picture, write_pair

HEIGHT, WIDTH = 24, 40
ORIENTATION = 0x0112


def upright_picture() -> np.ndarray:
    """Left half dark, right half bright, a red block in the top left corner: every turn of it looks different."""
    pixels = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    pixels[:, WIDTH // 2 :] = 200
    pixels[:12, :12] = (250, 0, 0)
    return pixels


def rotated_file(image_format: str, orientation: int) -> bytes:
    """An image file that shows :func:`upright_picture` once its EXIF orientation is applied."""
    inverse = {5: 5, 6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[ORIENTATION] = inverse
    carrier, buffer = Image.fromarray(upright_picture()), io.BytesIO()
    carrier.save(buffer, format="PNG", exif=exif)
    stored = ImageOps.exif_transpose(Image.open(buffer))
    exif[ORIENTATION] = orientation
    result = io.BytesIO()
    stored.save(result, format=image_format, exif=exif)
    return result.getvalue()


def find(json_path):
    return find_image_file(read_labelme(json_path))


def load(json_path):
    return annotated_image(read_labelme(json_path))


def test_an_upright_image_is_copied_byte_by_byte(tmp_path):
    image = load(write_pair(tmp_path, "a.jpg", []))
    assert (image.height, image.width, image.name, image.is_turned) == (48, 64, "a.jpg", False)
    image.write(tmp_path / "copy.jpg")
    assert (tmp_path / "copy.jpg").read_bytes() == (tmp_path / "a.jpg").read_bytes()


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize(
    ("image_format", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")]
)
def test_a_turned_image_is_written_upright_for_every_reader(tmp_path, image_format, suffix, orientation):
    path = tmp_path / f"a.{suffix}"
    write_pair(tmp_path, path.name, [], pixels=upright_picture())
    path.write_bytes(rotated_file(image_format, orientation))
    image = load(path.with_suffix(".json"))
    assert (image.height, image.width, image.is_turned) == (HEIGHT, WIDTH, True)
    target = tmp_path / f"out.{suffix}"
    image.write(target)
    with Image.open(target) as written:
        assert written.format == image_format
        assert written.getexif().get(ORIENTATION, 1) == 1
        pixels = np.asarray(written.convert("RGB")).astype(int)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    tolerance = 40 if image_format in ("JPEG", "WEBP") else 0  # the sources are lossy at the edges
    difference = np.abs(pixels - upright_picture())
    assert np.quantile(difference, 0.97) <= tolerance
    assert difference.mean() < 4


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_orientations_that_turn_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    json_path = write_pair(tmp_path, "a.jpg", [])
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=exif)
    assert not load(json_path).is_turned


def test_an_annotation_of_the_unrotated_image_is_told_so(tmp_path):
    json_path = write_pair(tmp_path, "a.jpg", [], pixels=upright_picture(), imageHeight=WIDTH, imageWidth=HEIGHT)
    (tmp_path / "a.jpg").write_bytes(rotated_file("JPEG", 6))
    with pytest.raises(DataError, match="says 24 x 40 .* has 40 x 24 after its EXIF rotation"):
        load(json_path)


def test_the_embedded_image_wins_and_is_named_after_its_format(tmp_path):
    json_path = write_pair(tmp_path, "photo.jpg", [], pixels=upright_picture(), embedded=True)
    Image.fromarray(picture(10, 10)).save(tmp_path / "photo.jpg")
    image = load(json_path)
    assert (image.is_embedded, image.name, image.height) == (True, "photo.png", HEIGHT)
    image.write(tmp_path / "out.png")
    assert (np.asarray(Image.open(tmp_path / "out.png")) == upright_picture()).all()


def test_an_embedded_image_without_a_path_is_named_after_its_annotation(tmp_path):
    assert load(write_pair(tmp_path, "x.jpg", [], embedded=True, imagePath=None)).name == "x.png"


@pytest.mark.parametrize(
    "image_path", ["a.png", "./a.png", ".\\a.png", "D:\\photos\\a.png", "../elsewhere/a.png", "A.PNG", "gone.png", None]
)
def test_an_image_beside_its_annotation_is_found(tmp_path, image_path):
    json_path = write_pair(tmp_path, "a.png", [], imagePath=image_path)
    Image.fromarray(picture(seed=5)).save(tmp_path / "z.png")
    assert find(json_path) == tmp_path / "a.png"


@pytest.mark.parametrize("image_path", ["images/b.png", "images\\b.png", "..\\data\\images\\b.png"])
def test_an_image_in_another_folder_is_found(tmp_path, image_path):
    json_path = write_pair(tmp_path / "data", "a.png", [], imagePath=image_path)
    (tmp_path / "data/images").mkdir()
    (tmp_path / "data/a.png").rename(tmp_path / "data/images/b.png")
    assert find(json_path).resolve() == tmp_path / "data/images/b.png"


def test_unicode_forms_of_a_name_are_one_name(tmp_path):
    json_path = write_pair(tmp_path, "a.png", [], imagePath="h\u00f6he.png")
    (tmp_path / "a.png").rename(tmp_path / "ho\u0308he.png")
    assert find(json_path).name == "ho\u0308he.png"


@pytest.mark.parametrize("image_path", ["a.png", "x\0y.png", "x" * 5000])
def test_a_missing_image_is_named(tmp_path, image_path):
    json_path = write_pair(tmp_path, "a.png", [], imagePath=image_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="does not exist, and no image 'a.\\*' lies beside it"):
        find(json_path)
    with pytest.raises(DataError, match="names no image"):
        find(write_pair(tmp_path / "b", "b.png", [], embedded=True, imageData=None, imagePath=...))


def test_damaged_images_are_named(tmp_path):
    json_path = write_pair(tmp_path, "a.jpg", [], pixels=picture(300, 400))
    whole = (tmp_path / "a.jpg").read_bytes()
    assert Image.open(io.BytesIO(whole[: len(whole) // 2])).size == (400, 300)  # its header is whole
    for content in (whole[: len(whole) // 2], b"", b"text", whole[:20]):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(DataError, match="image 'a.jpg' cannot be read as an image"):
            load(json_path)
    embedded = write_pair(tmp_path, "b.jpg", [], imageData=base64.b64encode(whole[:100]).decode())
    with pytest.raises(DataError, match="'imageData' cannot be read as an image: [^<]*$"):  # no memory address
        load(embedded)
    no_picture = write_pair(tmp_path, "c.jpg", [], imageData=base64.b64encode(b"text").decode())
    with pytest.raises(DataError, match="'imageData' cannot be read as an image: it holds no picture"):
        load(no_picture)


@pytest.mark.parametrize("keys", [{"imageHeight": 47}, {"imageWidth": 65}, {"imageHeight": 64, "imageWidth": 48}])
def test_another_size_than_stated_is_named(tmp_path, keys):
    with pytest.raises(DataError, match="its image 'a.jpg' has 64 x 48; was the image resized"):
        load(write_pair(tmp_path, "a.jpg", [], **keys))


def test_a_size_need_not_be_stated(tmp_path):
    assert load(write_pair(tmp_path, "a.jpg", [], imageHeight=None, imageWidth=...)).width == 64


def test_equal_content_has_equal_digests(tmp_path):
    first = load(write_pair(tmp_path, "a.png", []))
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    assert plain_image(tmp_path / "b.png").digest == first.digest
    assert plain_image(tmp_path / "b.png").name == "b.png"
