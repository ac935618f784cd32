"""Whole folders: the COCO output, classes, bad files, and real ones."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sam3.errors import DataError
from tests.data.labelme_folder import (
    SQUARE,
    digest_of,
    document,
    mask_shape,
    names_of,
    run,
    shape,
    write_labelme_folder,
    write_pair,
)

# --- the output ---


def test_the_folder_looks_as_promised(folder, output):
    report = run(folder, output)
    assert sorted(path.name for path in output.iterdir()) == ["train", "val"]
    assert (report.num_train, report.num_val) == (8, 2)
    for split, count in (("train", 8), ("val", 2)):
        assert sorted(path.name for path in (output / split).iterdir()) == ["annotations.json", "images"]
        images = sorted(path.name for path in (output / split / "images").iterdir())
        assert images == sorted(names_of(output, split))
        assert len(images) == count
        assert all((output / split / "images" / n).read_bytes() == (folder / n).read_bytes() for n in images)
    assert not set(names_of(output, "train")) & set(names_of(output, "val"))


def test_the_documents_are_coco(folder, output):
    run(folder, output)
    total = 0
    for split in ("train", "val"):
        data = document(output, split)
        assert list(data) == ["images", "annotations", "categories"]
        assert data["categories"] == [
            {"id": 1, "name": "cat", "supercategory": "object"},
            {"id": 2, "name": "dog", "supercategory": "object"},
        ]
        assert [entry["id"] for entry in data["images"]] == list(range(1, len(data["images"]) + 1))
        assert [entry["id"] for entry in data["annotations"]] == list(range(1, len(data["annotations"]) + 1))
        assert all(list(entry) == ["id", "file_name", "width", "height"] for entry in data["images"])
        keys = ["id", "image_id", "category_id", "bbox", "area", "segmentation", "iscrowd"]
        assert all(list(entry) == keys and entry["iscrowd"] == 0 for entry in data["annotations"])
        assert {entry["image_id"] for entry in data["annotations"]} <= {entry["id"] for entry in data["images"]}
        total += len(data["annotations"])
    assert total == 16


def test_boxes_and_areas_agree_with_pycocotools_and_with_the_pixels(folder, output):
    run(folder, output)
    for split in ("train", "val"):
        coco = COCO(output / split / "annotations.json")
        for annotation in coco.loadAnns(coco.getAnnIds()):
            mask = coco.annToMask(annotation)
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()]
            assert annotation["bbox"] == box  # whole coordinates: exact, full width
            assert annotation["area"] == mask.sum()
            (image,) = coco.loadImgs(annotation["image_id"])
            pixels = np.asarray(Image.open(output / split / "images" / image["file_name"])).astype(int)
            colour = [(255, 0, 0), (0, 255, 0)][annotation["category_id"] - 1]
            assert np.abs(pixels[mask.astype(bool)] - colour).mean() < 25


def test_the_same_input_gives_the_same_bytes_and_the_input_stays_as_it_is(folder, tmp_path):
    before = digest_of(folder)
    run(folder, tmp_path / "one", seed=5)
    run(folder, tmp_path / "two", seed=5)
    run(folder, tmp_path / "three", seed=6)
    assert digest_of(tmp_path / "one") == digest_of(tmp_path / "two")
    assert names_of(tmp_path / "one", "val") != names_of(tmp_path / "three", "val")
    assert digest_of(folder) == before


def test_images_without_shapes_are_kept_on_both_sides(tmp_path, output):
    folder = write_labelme_folder(tmp_path / "in", num_images=5, num_negatives=5)
    run(folder, output)
    for split in ("train", "val"):
        data = document(output, split)
        annotated = {annotation["image_id"] for annotation in data["annotations"]}
        assert {entry["id"] for entry in data["images"]} - annotated


@pytest.mark.parametrize(("train_split", "sizes"), [(1.0, (10, 0)), (0.0, (0, 10)), (0.5, (5, 5))])
def test_train_split(folder, output, train_split, sizes):
    run(folder, output, train_split=train_split)
    assert (len(names_of(output, "train")), len(names_of(output, "val"))) == sizes


@pytest.mark.parametrize("train_split", [-0.1, 1.1, 80, float("nan")])
def test_train_split_out_of_range(folder, output, train_split):
    with pytest.raises(DataError, match="between 0 and 1"):
        run(folder, output, train_split=train_split)


def test_every_shape_type_at_once(tmp_path, output):
    shapes = [
        shape("a", SQUARE),
        shape("b", [(30, 30), (20, 20)], "rectangle"),
        shape("c", [(40, 10), (44, 14), (40, 18), (36, 14)], "oriented_rectangle"),
        shape("d", [(50, 30), (50, 38)], "circle"),
        mask_shape("e", np.eye(6) > 0, 5, 30),
        shape("f", SQUARE, group_id=1),
        shape("f", [(20, 2), (29, 9)], "rectangle", group_id=1),
    ]
    write_pair(tmp_path / "in", "x.png", shapes)
    run(tmp_path / "in", output, train_split=1.0)
    areas = {entry["category_id"]: entry["area"] for entry in document(output, "train")["annotations"]}
    assert areas == {1: 49, 2: 100, 3: pytest.approx(32, abs=4), 4: pytest.approx(201, abs=5), 5: 6, 6: 49 + 63}


# --- classes ---


@pytest.fixture
def many_labels(tmp_path) -> Path:
    labels = ["cat", "dog", "__ignore__", "_background_", "cat"]
    for index in range(4):
        write_pair(tmp_path / "in", f"{index}.png", [shape(label, SQUARE) for label in labels])
    return tmp_path / "in"


def categories(output: Path) -> list[str]:
    found = [[entry["name"] for entry in document(output, split)["categories"]] for split in ("train", "val")]
    assert found[0] == found[1]
    return found[0]


def test_all_labels_but_the_ignored_ones(many_labels, output):
    report = run(many_labels, output)
    assert categories(output) == ["cat", "dog"]
    assert report.left_out_labels == Counter({"__ignore__": 4, "_background_": 4})


def test_named_classes_in_the_order_given(many_labels, output):
    report = run(many_labels, output, class_names=("dog", " cat ", "dog"))
    assert categories(output) == ["dog", "cat"]
    assert "cat" not in report.left_out_labels
    run(many_labels, output, class_names=("dog",), overwrite=True)
    assert categories(output) == ["dog"]
    assert len(document(output, "train")["annotations"]) == 3


def test_an_ignored_label_can_be_asked_for(many_labels, output):
    run(many_labels, output, class_names=("__ignore__",))
    assert categories(output) == ["__ignore__"]


def test_single_class_takes_every_object(many_labels, output):
    report = run(many_labels, output, class_names=("animal",), single_class=True)
    assert categories(output) == ["animal"]
    assert sum(len(document(output, split)["annotations"]) for split in ("train", "val")) == 12
    assert report.left_out_labels == Counter({"__ignore__": 4, "_background_": 4})


def test_single_class_keeps_groups_of_different_labels_apart(tmp_path, output):
    shapes = [shape("cat", SQUARE, group_id=1), shape("dog", SQUARE, group_id=1), shape("cat", SQUARE, group_id=1)]
    write_pair(tmp_path / "in", "a.png", shapes)
    run(tmp_path / "in", output, class_names=("animal",), single_class=True, train_split=1.0)
    assert [len(entry["segmentation"]) for entry in document(output, "train")["annotations"]] == [2, 1]


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_single_class_needs_one_name(folder, output, names):
    with pytest.raises(DataError, match=f"exactly one class_name, got {len(names)}"):
        run(folder, output, class_names=names, single_class=True)


def test_an_unknown_class_lists_the_labels_and_guesses(many_labels, output):
    with pytest.raises(DataError) as caught:
        run(many_labels, output, class_names=("dog", "Cta"))
    assert str(caught.value) == (
        "no shape carries the class_name 'Cta'. "
        "Labels found: cat (8), __ignore__ (4), _background_ (4), dog (4); did you mean 'cat'?"
    )
    assert not output.exists()


def test_class_names_compare_in_one_unicode_form(tmp_path, output):
    write_pair(tmp_path / "in", "a.png", [shape("ho\u0308he", SQUARE)])
    run(tmp_path / "in", output, class_names=("h\u00f6he",))
    assert categories(output) == ["h\u00f6he"]


def test_nothing_to_learn(tmp_path, output):
    write_pair(tmp_path / "in", "a.png", [shape("__ignore__", SQUARE)])
    with pytest.raises(DataError, match=r"no shape to learn from .* only __ignore__ \(1\)"):
        run(tmp_path / "in", output)
    write_pair(tmp_path / "in", "a.png", [])
    with pytest.raises(DataError, match=r"no shape to learn from .*: none"):
        run(tmp_path / "in", output)
    with pytest.raises(DataError, match="no shape carries the class_name 'cat'. Labels found: none."):
        run(tmp_path / "in", output, class_names=("cat",))


def test_an_empty_class_name(folder, output):
    with pytest.raises(DataError, match="must not be empty"):
        run(folder, output, class_names=("cat", " "))


# --- what cannot be used ---


def test_unsupported_shapes_stop_the_run_or_are_counted(tmp_path, output):
    folder = write_labelme_folder(tmp_path / "in", num_images=4)
    odd = [shape("cat", SQUARE[:1], "point"), shape("eye", SQUARE[:2], "line"), shape("cat", SQUARE[:1], "point")]
    write_pair(folder, "odd.png", [shape("cat", SQUARE), *odd])
    with pytest.raises(DataError, match=r"odd.json: shape 2 \(point 'cat'\) encloses no area"):
        run(folder, output)
    report = run(folder, output, skip_unsupported=True)
    assert report.skipped_shapes == Counter({("cat", "point"): 2, ("eye", "line"): 1})
    assert categories(output) == ["cat", "dog"]
    assert "odd.png" in names_of(output, "train") + names_of(output, "val")


def test_unsupported_shapes_of_other_labels_are_no_trouble(tmp_path, output):
    folder = write_labelme_folder(tmp_path / "in", num_images=4)
    write_pair(folder, "odd.png", [shape("eye", SQUARE[:1], "point"), shape("nose", SQUARE[:2])])
    report = run(folder, output, class_names=("cat",))
    assert report.left_out_labels == Counter({"dog": 4, "eye": 1, "nose": 1})


def test_a_class_all_of_whose_shapes_are_unsupported(tmp_path, output):
    folder = write_labelme_folder(tmp_path / "in", num_images=4)
    write_pair(folder, "odd.png", [shape("eye", SQUARE[:1], "point")])
    with pytest.raises(DataError, match="no usable shape of class 'eye' is left"):
        run(folder, output, class_names=("eye",), skip_unsupported=True)


def make_bad_files(folder: Path) -> list[str]:
    """Twelve kinds of trouble; returns names and part of each reason."""
    good = shape("cat", SQUARE)
    write_pair(folder, "b01.png", []).write_text('{"shapes": [{"label"')
    write_pair(folder, "b02.png", []).write_text("[1, 2]")
    write_pair(folder, "b03.png", [], version="5.5.0").write_text("{}")
    write_pair(folder, "b04.png", [good])
    (folder / "b04.png").unlink()
    write_pair(folder, "b05.png", [good])
    (folder / "b05.png").write_bytes(b"\x89PNG broken")
    write_pair(folder, "b06.png", [good], imageWidth=65)
    write_pair(folder, "b07.png", [shape("cat", [])])
    write_pair(folder, "b08.png", [shape("cat", [(1, 1), (float("nan"), 2), (3, 3)])])
    write_pair(folder, "b09.png", [good], imageData="!!!")
    write_pair(folder, "b10.png", [shape("cat", [(1, 1), (4, 4)], "mask", mask="AAAA")])
    write_pair(folder, "b11.png", [mask_shape("cat", np.ones((3, 3)), 1, 1) | {"points": [[1, 1], [9, 9]]}])
    write_pair(folder, "b12.png", [shape("cat", SQUARE, "hexagram")])
    write_pair(folder, "b13.png", [shape("", SQUARE)])
    write_pair(folder, "b14.png", [shape("cat", SQUARE[:1], "circle")])
    write_pair(folder, "b15.png", [shape("cat", SQUARE[:2])])
    write_pair(folder, "b16.png", [shape("cat", [(100, 100), (120, 100), (120, 120)])])
    (folder / "b17.json").write_text((folder / "image_000.json").read_text())
    return [
        "b01.json: not valid JSON, truncated",
        "b02.json: not a Labelme annotation: the JSON holds a list",
        "b03.json: not a Labelme annotation: 'shapes' is missing",
        "b04.json: image 'b04.png' does not exist",
        "b05.json: image 'b05.png' cannot be read",
        "b06.json: it says 65 x 48",
        "b07.json: shape 1 (polygon 'cat') has no points",
        "b08.json: shape 1 (polygon 'cat'): point 2 is [nan, 2]",
        "b09.json: 'imageData' is not valid base64",
        "b10.json: shape 1 (mask 'cat'): 'mask' is not a readable PNG",
        "b11.json: shape 1 (mask 'cat'): its PNG has 3 x 3 pixels",
        "b12.json: shape 1 (hexagram 'cat') encloses no area",
        "b13.json: shape 1 has no label",
        "b14.json: shape 1 (circle 'cat') needs 2 points",
        "b15.json: shape 1 (polygon 'cat') needs at least 3 points",
        "b16.json: shape 1 (polygon 'cat') lies wholly outside",
        "image_000.json: annotates image 'image_000.jpg', as 'b17.json' does",
    ]


def test_every_bad_file_is_named_with_its_reason_and_nothing_is_written(folder, output):
    reasons = make_bad_files(folder)
    before = digest_of(folder)
    with pytest.raises(DataError) as caught:
        run(folder, output)
    first, *lines, last = str(caught.value).splitlines()
    assert first == "17 files cannot be used, nothing was written:"
    assert len(lines) == len(reasons)
    for reason in reasons:
        assert sum(line.strip().startswith(reason) for line in lines) == 1, reason
    assert "--skip_bad" in last
    assert not output.exists()
    assert digest_of(folder) == before


def test_bad_files_are_left_out_on_request(folder, output):
    reasons = make_bad_files(folder)
    report = run(folder, output, skip_bad=True)
    assert len(report.bad_files) == len(reasons)
    assert len(report.images) == 10
    assert not any(name.startswith("b") for split in ("train", "val") for name in names_of(output, split))


def test_unreadable_files_are_told_together_with_an_unknown_class(folder, output):
    (folder / "broken.json").write_text("{")
    with pytest.raises(
        DataError, match=r"(?s)no shape carries the class_name 'cow'.*Besides, 1 file.*broken.json: not"
    ):
        run(folder, output, class_names=("cow",))


def test_only_bad_files(tmp_path, output):
    write_pair(tmp_path / "in", "a.png", [shape("cat", SQUARE)], imageWidth=3)
    with pytest.raises(DataError, match="no usable shape is left"):
        run(tmp_path / "in", output, skip_bad=True)


# --- real files ---


def test_the_real_files_convert_as_described(shared, output):
    report = run(shared / "data/labelme_real", output, skip_unsupported=True, train_split=1.0)
    coco = COCO(output / "train/annotations.json")
    names = {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())}
    counts = Counter(names[annotation["category_id"]] for annotation in coco.loadAnns(coco.getAnnIds()))
    assert counts == {"track": 6, "car": 3, "rectangle": 2, "circle": 1, "polygon": 1, "octagon": 1}
    assert report.skipped_shapes == {("line", "line"): 1, ("point", "point"): 1, ("line_strip", "linestrip"): 1}
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in coco.loadImgs(coco.getImgIds())}
    assert sizes["00000100.jpg"] == (1000, 563)
    assert sizes["primitives.jpg"] == (560, 450)
    (empty,) = [image for image in coco.loadImgs(coco.getImgIds()) if not coco.getAnnIds(image["id"])]
    assert (empty["file_name"], empty["width"], empty["height"]) == ("0001.jpg", 640, 480)
    boxes = {names[a["category_id"]]: a["bbox"] for a in coco.loadAnns(coco.getAnnIds())}
    assert boxes["octagon"] == [417, 305, 100, 100]
    assert boxes["rectangle"] == [391, 33, 151, 102]
    assert boxes["circle"] == pytest.approx([144.2, 33.2, 101.6, 101.6], abs=0.02)
    (car,) = [a for a in coco.loadAnns(coco.getAnnIds()) if names[a["category_id"]] == "car" and a["image_id"] == 3]
    assert len(car["segmentation"][0]) == 16


def test_the_real_line_is_refused_by_name(shared, output):
    with pytest.raises(DataError, match=r"primitives/primitives.json: shape 5 \(line 'line'\) encloses no area"):
        run(shared / "data/labelme_real", output)
