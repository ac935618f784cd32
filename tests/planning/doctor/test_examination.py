"""Every planted defect is found where it was planted, and nothing else is."""

import dataclasses

import pytest

from sam3.planning.doctor.examination import Examination, examine
from sam3.planning.doctor.findings import DEFECTS, Severity
from sam3.planning.doctor.locate import find_splits
from sam3.planning.doctor.settings import Settings
from tests.planning.doctor.planted import CLASSES, PLANTED, Folder

SETTINGS = Settings(class_names=CLASSES)
ALWAYS = {"image-without-objects"}  # the clean folder has such images on purpose

# What a defect brings with it.
CONSEQUENCES = {
    "image-missing": set(),
    "box-outside": {"mask-missing"},
    "image-exif-rotated": set(),
    "class-in-one-split": {"class-name-differs"},
    "class-without-objects": {"class-name-differs"},
    "phrase-too-long": {"class-name-differs"},
    "image-id-repeated": set(),
}


def codes(examination: Examination) -> set[str]:
    return {finding.code for finding in examination.findings}


def examine_folder(folder: Folder, settings: Settings = SETTINGS) -> Examination:
    folder.save()
    return examine(find_splits(folder.path), settings)


def test_nothing_is_invented_on_a_clean_folder(folder):
    examination = examine_folder(folder)
    assert codes(examination) == ALWAYS
    assert [finding.severity for finding in examination.findings] == [Severity.INFO] * 2
    assert (examination.num_images, examination.count(Severity.ERROR)) == (16, 0)


@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_defect_is_found_and_no_other(code, folder):
    names = PLANTED[code](folder)
    examination = examine_folder(folder)
    found = [finding for finding in examination.findings if finding.code == code]
    assert found, codes(examination)
    assert any(names in f"{finding.file} {finding.entry} {finding.message}" for finding in found)
    assert codes(examination) - ALWAYS - {code} <= CONSEQUENCES.get(code, set())
    has_repair = any(finding.repairs for finding in found)
    assert has_repair == (DEFECTS[code].repair is not None)


def test_all_of_them_at_once(large_folder):
    for plant in PLANTED.values():
        plant(large_folder)
    assert len(PLANTED) >= 15
    assert set(PLANTED) <= codes(examine_folder(large_folder))


def test_headers_alone_show_no_truncated_file(folder):
    PLANTED["image-corrupt"](folder)
    assert "image-corrupt" not in codes(examine_folder(folder, dataclasses.replace(SETTINGS, decode=False)))


def test_threads_find_the_same(folder):
    for code in ("image-corrupt", "image-near-duplicate", "image-duplicate", "image-exif-rotated"):
        PLANTED[code](folder)
    alone = examine_folder(folder).findings
    assert examine_folder(folder, dataclasses.replace(SETTINGS, workers=3)).findings == alone


def test_missing_and_empty_halves(folder):
    folder.documents["val"]["images"] = folder.documents["val"]["annotations"] = []
    assert {"split-empty", "image-unlisted"} & codes(examine_folder(folder)) == {"split-empty"}
    for path in sorted((folder.path / "val").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (folder.path / "val").rmdir()
    assert "split-missing" in codes(examine(find_splits(folder.path), SETTINGS))
    relaxed = dataclasses.replace(SETTINGS, needs_val=False)
    assert "split-missing" not in codes(examine(find_splits(folder.path), relaxed))


@pytest.mark.parametrize("text", ["{", "[]", '{"images": {}}'])
def test_an_unreadable_annotation_file_is_one_finding(text, folder):
    folder.save()
    folder.file("val").write_text(text)
    found = [f for f in examine(find_splits(folder.path), SETTINGS).findings if f.severity is Severity.ERROR]
    assert [finding.code for finding in found] == ["annotations-unreadable"]
    assert found[0].file == str(folder.file("val"))


def test_boxes_without_masks_are_one_hint_not_a_hundred(folder):
    for document in folder.documents.values():
        for annotation in document["annotations"]:
            del annotation["segmentation"]
    assert codes(examine_folder(folder)) - ALWAYS == {"no-masks"}
    assert codes(examine_folder(folder, dataclasses.replace(SETTINGS, with_masks=False))) == ALWAYS


def test_more_objects_than_are_trained(folder):
    first = folder.documents["train"]["annotations"][0]
    many = [first | {"id": 100 + n, "bbox": [v + 0.001 * (n + 1) for v in first["bbox"]]} for n in range(4)]
    folder.documents["train"]["annotations"] += many
    found = examine_folder(folder, dataclasses.replace(SETTINGS, max_objects=4)).findings
    assert "too-many-objects" in {finding.code for finding in found}
    assert codes(examine_folder(folder)) == ALWAYS


def test_a_file_name_in_other_letters_is_recognised(folder):
    image = folder.image()
    image["file_name"] = image["file_name"].upper()
    (found,) = [f for f in examine_folder(folder).findings if f.code == "image-missing"]
    assert "but one called 0000.png" in found.message
    assert found.repairs[0].values == {"file_name": "0000.png"}
