"""Which images a run is about, and unique names for their files."""

import os
from pathlib import Path

import pytest

from sam3.errors import DataError
from sam3.predict.inputs import ImageFile, list_images, unique_names
from tests.predict.conftest import save_picture


def names(images: list[ImageFile]) -> list[str]:
    return [image.file_name for image in images]


def test_a_folder_gives_its_images_in_order(photos):
    save_picture(photos / "sub" / "d.png")
    (photos / "notes.md").write_text("no image")
    (photos / "._a.png").write_text("left by another system")
    (photos / "UPPER.JPG").write_bytes((photos / "b.jpg").read_bytes())
    assert names(list_images([photos])) == ["UPPER.JPG", "a.png", "b.jpg", "c.png"]


def test_recursive_looks_into_sub_folders_but_not_into_the_output(photos):
    save_picture(photos / "sub" / "deeper" / "d.png")
    save_picture(photos / "out" / "overlays" / "a.jpg")
    save_picture(photos / ".thumbnails" / "a.png")
    found = list_images([photos], recursive=True, exclude=photos / "out")
    assert names(found) == ["a.png", "b.jpg", "c.png", "sub/deeper/d.png"]
    assert found[-1].name == "sub/deeper/d"
    assert found[-1].path == photos / "sub" / "deeper" / "d.png"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_to_folders_are_followed_once(photos):
    (photos / "again").symlink_to(photos, target_is_directory=True)
    assert names(list_images([photos], recursive=True)) == ["a.png", "b.jpg", "c.png"]


def test_lists_hold_paths_relative_to_themselves_or_to_here(photos, monkeypatch):
    elsewhere = save_picture(photos.parent / "elsewhere" / "ü.png")
    listing = photos / "list.txt"
    listing.write_text(f"\ufeff# comment\n\nb.jpg\n  {elsewhere}\nelsewhere/ü.png\nmissing.png\n", encoding="utf-8")
    monkeypatch.chdir(photos.parent)
    found = list_images([listing])
    assert names(found) == ["b.jpg", "ü.png", "missing.png"]
    assert found[1].path == elsewhere


def test_an_image_given_twice_is_taken_once(photos):
    assert names(list_images([photos / "b.jpg", photos, photos / ".." / "photos" / "b.jpg"])) == [
        "b.jpg",
        "a.png",
        "c.png",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", "there is no such folder or file"),
        (lambda folder: _folder(folder / "empty"), "no images"),
        (
            lambda folder: save_picture(folder / "outer" / "inner" / "a.png").parents[1],
            "sub-folders hold 1: add --recur",
        ),
        (lambda folder: _file(folder / "empty.txt", b"# only this\n"), "the list names no image"),
        (lambda folder: _file(folder / "latin.txt", b"\xe4.png\n"), "must be UTF-8"),
    ],
)
def test_an_input_without_images_is_an_error(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        list_images([make(tmp_path)])


def test_names_are_unique_on_every_file_system():
    images = [
        ImageFile(Path(path), file)
        for path, file in (("/1/a.png", "a.png"), ("/1/A.jpg", "A.jpg"), ("/2/a.png", "a.png"))
    ]
    assert list(unique_names(images, {}).values()) == ["a", "A_2", "a_3"]


def test_names_given_earlier_stay():
    images = [ImageFile(Path("/0/a.png"), "a.png"), ImageFile(Path("/1/a.png"), "a.png")]
    assert unique_names(images, {Path("/1/a.png"): "a"}) == {Path("/0/a.png"): "a_2", Path("/1/a.png"): "a"}


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
