"""``--fix`` writes a copy that training accepts, changes nothing else, and says what it did."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3.data.coco import read_coco, records_of
from sam3.errors import UserError
from sam3.io.images import open_image
from sam3.planning.doctor.examination import examine
from sam3.planning.doctor.findings import DEFECTS, Severity
from sam3.planning.doctor.locate import find_splits
from sam3.planning.doctor.orientation import without_exif
from sam3.planning.doctor.repair import write_repaired
from tests.planning.doctor.planted import PLANTED, Folder
from tests.planning.doctor.test_examination import SETTINGS, codes, examine_folder
from tests.train.micro import train

LEFT = {"image-without-objects", "mask-missing"}  # what a repair may leave or make


def repair(folder: Folder, target: Path):
    """(written copy examined, its training annotations)"""
    write_repaired(examine_folder(folder), target)
    return examine(find_splits(target), SETTINGS), json.loads((target / "train" / "annotations.json").read_text())


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("code", [code for code in PLANTED if DEFECTS[code].repair])
def test_what_can_be_repaired_is_gone_from_the_copy(code, folder, tmp_path):
    PLANTED[code](folder)
    after, _ = repair(folder, tmp_path / "new")
    assert codes(after) <= LEFT | {"class-in-one-split"}


def test_everything_at_once_trains_and_the_input_is_untouched(large_folder, tmp_path):
    for code, plant in PLANTED.items():
        if code not in ("phrase-too-long", "class-name-differs", "class-in-one-split", "class-without-objects"):
            plant(large_folder)
    large_folder.save()
    before = contents(large_folder.path)
    after, _ = repair(large_folder, tmp_path / "new")
    assert after.count(Severity.ERROR) == 0
    assert contents(large_folder.path) == before
    log = json.loads((tmp_path / "new" / "repairs.json").read_text())
    assert len(log) >= 15
    assert all(entry["repairs"] for entry in log)

    out = train(
        tmp_path / "new", tmp_path / "run", "scratch.max_epochs=1", class_name=None, config="train_config_multi_class"
    )
    stats = json.loads((out / "logs" / "train_stats.json").read_text().splitlines()[0])
    assert np.isfinite(stats["Losses/train_all_loss"])
    assert (out / "checkpoints" / "last.pt").is_file()


def test_a_clean_folder_is_copied_as_it_is(folder, tmp_path):
    folder.save()
    repair(folder, tmp_path / "new")
    copied = contents(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "repairs.json").read_text()) == []
    for name, digest in contents(folder.path).items():
        if name.endswith(".png"):
            assert copied[name] == digest
    assert json.loads((tmp_path / "new/val/annotations.json").read_text()) == folder.documents["val"]


def test_a_resized_picture_keeps_its_objects_in_place(folder, tmp_path):
    PLANTED["image-size-differs"](folder)
    image = next(i for i in folder.documents["train"]["images"] if i["id"] in folder.used)
    before = folder.annotations_of(image)
    _, document = repair(folder, tmp_path / "new")
    new = next(i for i in document["images"] if i["id"] == image["id"])
    after = [a for a in document["annotations"] if a["image_id"] == image["id"]]
    assert (new["height"], new["width"]) == (32, 40)
    for old, scaled in zip(before, after, strict=True):
        np.testing.assert_allclose(scaled["bbox"], np.array(old["bbox"]) / 2)
        np.testing.assert_allclose(scaled["segmentation"][0], np.array(old["segmentation"][0]) / 2)


def test_masks_tell_which_of_two_sizes_is_right(folder, tmp_path):
    image = folder.image()
    for entry in folder.annotations_of(image):
        entry["segmentation"] = {"size": [64, 80], "counts": [64 * 10 + 5, 20, 64 * 80 - 64 * 10 - 25]}
        entry["bbox"] = [10, 5, 1, 20]
    image["width"], image["height"] = 160, 128  # the entry is wrong, not the picture
    _, document = repair(folder, tmp_path / "new")
    new = next(i for i in document["images"] if i["id"] == image["id"])
    assert (new["height"], new["width"]) == (64, 80)
    assert [a["bbox"] for a in document["annotations"] if a["image_id"] == image["id"]][0] == [10, 5, 1, 20]


def test_a_turned_jpeg_keeps_its_compressed_pixels(folder, tmp_path):
    name = PLANTED["image-exif-rotated"](folder)
    repair(folder, tmp_path / "new")
    source, copy = folder.path / "train/images" / name, tmp_path / "new/train/images" / name
    assert open_image(copy).size == (80, 64)
    assert open_image(source).size == (64, 80)
    with Image.open(source) as first, Image.open(copy) as second:
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_a_turned_png_becomes_an_upright_one(folder, tmp_path):
    image = folder.image()
    path = folder.picture(image)
    exif = Image.Exif()
    exif[0x0112] = 8
    pixels = np.asarray(Image.open(path))
    Image.fromarray(pixels).save(path, exif=exif)
    repair(folder, tmp_path / "new")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "new/train/images" / path.name)), pixels)


def test_categories_are_united_by_name(folder, tmp_path):
    PLANTED["categories-differ"](folder)
    folder.save()
    names = {split: read_coco(folder.file(split)).categories for split in ("train", "val")}
    wanted = [names["val"][a["category_id"]] for a in folder.documents["val"]["annotations"]]
    repair(folder, tmp_path / "new")
    val = read_coco(tmp_path / "new" / "val" / "annotations.json")
    assert val.categories == read_coco(tmp_path / "new" / "train" / "annotations.json").categories
    entries = json.loads((tmp_path / "new/val/annotations.json").read_text())["annotations"]
    assert [val.categories[entry["category_id"]] for entry in entries] == wanted


def test_joined_entries_keep_all_annotations(folder, tmp_path):
    PLANTED["image-listed-twice"](folder)
    _, document = repair(folder, tmp_path / "new")
    assert len(document["annotations"]) == len(folder.documents["train"]["annotations"])
    assert {a["image_id"] for a in document["annotations"]} <= {i["id"] for i in document["images"]}
    records_of(read_coco(tmp_path / "new" / "train" / "annotations.json"))


def test_names_that_lead_out_of_the_folder_stay_inside(folder, tmp_path):
    image = folder.image()
    path = folder.picture(image)
    image["file_name"] = f"../images/./{path.name}"
    repair(folder, tmp_path / "new")
    assert (tmp_path / "new" / "train" / "images" / "images" / path.name).is_file()


def test_an_existing_folder_is_refused(folder, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "precious.txt").write_text("x")
    with pytest.raises(UserError, match="exists already"):
        write_repaired(examine_folder(folder), tmp_path / "new")


def test_nothing_is_left_behind_when_writing_fails(folder, tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise OSError("disk full")

    examination = examine_folder(folder)
    monkeypatch.setattr("sam3.planning.doctor.repair.write_json", fail)
    with pytest.raises(OSError, match="disk full"):
        write_repaired(examination, tmp_path / "out" / "new")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_jpeg_without_exif_is_unchanged(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    assert without_exif(data) == data
