"""Copies, National Gallery, iNaturalist and FathomNet."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3.data.preparation import fathomnet, inaturalist, nga, renamed_copies
from sam3.data.preparation.annotated_pictures import pictures_of
from sam3.data.preparation.download import Client, DownloadError
from sam3.errors import DataError
from tests.data.preparation.server import Site


def annotation_file(folder: Path, names: list[str], size: tuple[int, int] = (6, 8)) -> Path:
    images = [
        {"id": i, "file_name": name, "height": size[0], "width": size[1], "text_input": "thing"}
        for i, name in enumerate(names)
    ]
    path = folder / "silver.json"
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    return path


def jpeg(height: int, width: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("dataset", "raw", "name"),
    [
        ("geode", "images/Asia/India/bag/1.jpg", "Asia_India_bag_1.jpg"),
        ("bdd100k", "100k/train/0a.jpg", "0a.jpg"),
        ("food_rec", "public_validation_set_2.0/images/0042.jpg", "validation_0042.jpg"),
    ],
)
def test_raw_pictures_are_copied_under_their_annotated_names(tmp_path: Path, dataset: str, raw: str, name: str):
    source, target = tmp_path / "raw" / raw, tmp_path / "out"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"picture")
    annotations = annotation_file(tmp_path, [name, name])
    copy = renamed_copies.copy_pictures
    assert copy(annotations, tmp_path / "raw", target, dataset=dataset).endswith("1 new, 0 already there, 0 failed")
    assert copy(annotations, tmp_path / "raw", target, dataset=dataset).endswith("0 new, 1 already there, 0 failed")
    assert (target / name).read_bytes() == b"picture"
    with pytest.raises(DownloadError, match=r"gone\.jpg: not found below"):
        copy(annotation_file(tmp_path, ["gone.jpg"]), tmp_path / "raw", target, dataset=dataset)


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"images\[0\].file_name is '\.\./x.jpg'"):
        pictures_of(annotation_file(tmp_path, ["../x.jpg"]))


@pytest.fixture
def gallery(site: Site, tmp_path: Path) -> list[str]:
    """Arguments of a gallery with a free picture, a limited one, one that exceeds its limit and one that is unknown."""
    header = "uuid,iiifurl,iiifthumburl,maxpixels"
    rows = [f"free,{site.address}/free,,", f"limited,{site.address}/limited,,20", f"big,{site.address}/big,,20"]
    site.files["/table.csv"] = "\n".join([header, *rows]).encode()
    site.files["/free/full/full/0/default.jpg"] = jpeg(60, 80)
    site.files["/limited/full/!20,20/0/default.jpg"] = jpeg(15, 20)
    site.files["/big/full/!20,20/0/default.jpg"] = jpeg(30, 40)
    folders = ["--raw_images_folder", str(tmp_path / "raw"), "--processed_images_folder", str(tmp_path / "out")]
    return [*folders, "--table_url", f"{site.address}/table.csv"]


def test_gallery(gallery: list[str], site: Site, tmp_path: Path, capsys):
    annotations = annotation_file(tmp_path, ["free.jpg", "limited.jpg"], size=(15, 20))
    arguments = ["--annotation_file", str(annotations), *gallery]
    assert nga.main(arguments) == 0
    assert "2 new" in capsys.readouterr().out
    for name in ("free.jpg", "limited.jpg"):
        assert Image.open(tmp_path / "out" / name).size == (20, 15)
    asked = len(site.asked)
    assert nga.main(arguments) == 0
    assert len(site.asked) == asked
    bad = annotation_file(tmp_path, ["big.jpg", "unknown.jpg"])
    with pytest.raises(DownloadError) as error:
        nga.main(["--annotation_file", str(bad), *gallery])
    assert "big.jpg: the server sent (30, 40) pixels, more than the 20 allowed" in str(error.value)
    assert "unknown.jpg: its uuid is not in the table" in str(error.value)
    assert not (tmp_path / "out" / "big.jpg").exists()


def test_gallery_table_without_columns(tmp_path: Path):
    (tmp_path / "table.csv").write_text("uuid\nx\n")
    with pytest.raises(DataError, match="lacks the columns iiifurl, maxpixels"):
        nga.read_table(tmp_path / "table.csv")


def test_inaturalist_unpacks_the_subset_only(site: Site, tmp_path: Path, capsys):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in (("./train/a/1.jpg", b"one"), ("train/b/2.jpg", b"two"), ("train/c/3.jpg", b"three")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    site.files["/inat.tar.gz"] = stream.getvalue()
    subset = tmp_path / "subset.json"
    subset.write_text(json.dumps({"x.jpg": "train/a/1.jpg", "twice.jpg": "train/a/1.jpg", "y.jpg": "train/b/2.jpg"}))
    arguments = ["--raw_images_folder", str(tmp_path / "raw"), "--processed_images_folder", str(tmp_path / "out")]
    arguments += ["--subset-json", str(subset), "--archive-url", f"{site.address}/inat.tar.gz"]
    assert inaturalist.main(arguments) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "x.jpg": b"one",
        "twice.jpg": b"one",
        "y.jpg": b"two",
    }
    assert inaturalist.main(arguments) == 0
    assert "0 new, 3 already there" in capsys.readouterr().out


def test_inaturalist_names_what_the_archive_lacks_and_a_broken_archive(tmp_path: Path):
    path = tmp_path / "a.tar.gz"
    tarfile.open(path, "w:gz").close()
    with pytest.raises(DataError, match="lacks 1 members: train/z.jpg"):
        inaturalist.extract(path, {"z.jpg": "train/z.jpg"}, tmp_path)
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(DataError, match="cannot be unpacked"):
        inaturalist.extract(path, {"z.jpg": "train/z.jpg"}, tmp_path)


def test_fathomnet(site: Site, tmp_path: Path, client: Client):
    site.files["/api/u1"] = json.dumps({"url": f"{site.address}/pictures/whale.PNG"}).encode()
    site.files["/pictures/whale.PNG"] = b"whale"
    site.files["/api/u2"] = b"{}"
    uuids = tmp_path / "uuids.json"
    uuids.write_text('["u1"]')
    arguments = ["--processed_images_folder", str(tmp_path / "out"), "--image-uuids", str(uuids)]
    arguments += ["--service-url", f"{site.address}/api"]
    assert fathomnet.main(arguments) == 0
    assert (tmp_path / "out" / "u1.png").read_bytes() == b"whale"
    asked = len(site.asked)
    assert fathomnet.main(arguments) == 0
    assert len(site.asked) == asked
    with pytest.raises(DataError, match="names no address"):
        fathomnet.fetch("u2", tmp_path / "out", f"{site.address}/api", client)
