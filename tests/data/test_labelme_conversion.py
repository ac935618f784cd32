"""Whole folders: the COCO output, classes, groups, names, bad files, and what is never overwritten."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sam3.data.labelme_conversion import LabelmeOptions, convert
from sam3.errors import DataError
from tests.data.labelme_folder import mask_shape, picture, shape, write_labelme_folder, write_pair

SQUARE = [(2, 2), (9, 2), (9, 9), (2, 9)]


def run(folder: Path, output: Path, **options):
    return convert(LabelmeOptions(folder, output, **options))


def document(output: Path, split: str) -> dict:
    return json.loads((output / split / "annotations.json").read_text(encoding="utf-8"))


def names_of(output: Path, split: str) -> list[str]:
    return [entry["file_name"] for entry in document(output, split)["images"]]


def digest_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_labelme_folder(tmp_path / "in", num_images=8, num_negatives=2)


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


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


# --- folders ---


def test_folders_that_cannot_be_converted(folder, output, tmp_path):
    with pytest.raises(DataError, match="does not exist; name the folder"):
        run(tmp_path / "nowhere", output)
    with pytest.raises(DataError, match="is a file"):
        run(folder / "image_000.json", output)
    (tmp_path / "empty").mkdir()
    Image.fromarray(picture()).save(tmp_path / "empty/a.png")
    with pytest.raises(DataError, match=r"holds no .json file \(1 images\)"):
        run(tmp_path / "empty", output)
    for inside in (folder, folder / "coco"):
        with pytest.raises(DataError, match="lies inside labelme_dir"):
            run(folder, inside)
    inner = write_labelme_folder(output / "train" / "raw", num_images=2)
    with pytest.raises(DataError, match="lies where the output is to be written"):
        run(inner, output)
    (tmp_path / "file").write_text("x")
    for below in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match="output_dir .* cannot be written: .*file' is a file"):
            run(folder, below)


def test_a_folder_without_permission(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # the superuser may write everywhere
    with pytest.raises(DataError, match=f"cannot be written: no permission for '{tmp_path}'"):
        run(folder, tmp_path / "new" / "out")


def test_the_input_may_lie_inside_the_output(tmp_path):
    write_labelme_folder(tmp_path / "raw")
    run(tmp_path / "raw", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "train", "val"]


def test_sub_folders_and_equal_names(tmp_path, output):
    folder = tmp_path / "in"
    for place in ("b/c", "a", "b", "a_b"):
        write_pair(folder / place, "x.png", [shape("cat", SQUARE)], pixels=picture(seed=len(place)))
    write_pair(folder / "b", "X.PNG", [shape("cat", SQUARE)], pixels=picture(seed=9))
    write_pair(folder / "b", "alone.png", [], pixels=picture(seed=8))
    write_pair(folder / ".hidden", "y.png", [shape("cow", SQUARE)])
    (folder / "a/._x.json").write_text("resource fork")
    run(folder, output, train_split=1.0)
    assert sorted(names_of(output, "train")) == [
        "a_b_x.png",
        "a_x.png",
        "alone.png",
        "b_X.PNG",
        "b_c_x.png",
        "b_x_2.png",
    ]
    by_name = {name: (output / "train/images" / name).read_bytes() for name in names_of(output, "train")}
    assert by_name["b_c_x.png"] == (folder / "b/c/x.png").read_bytes()
    assert by_name["b_X.PNG"] == (folder / "b/X.PNG").read_bytes()
    assert by_name["b_x_2.png"] == (folder / "b/x.png").read_bytes()


def test_non_ascii_names(tmp_path, output):
    folder = tmp_path / "\u56fe\u50cf \u00e9"
    write_pair(folder, "\u732b 1.jpg", [shape("\u732b", SQUARE)])
    write_pair(folder, "\u732b 2.jpg", [shape("\u732b", SQUARE)], pixels=picture(seed=1))
    run(folder, output / "\u51fa\u529b")
    assert sorted(names_of(output / "\u51fa\u529b", "train") + names_of(output / "\u51fa\u529b", "val")) == [
        "\u732b 1.jpg",
        "\u732b 2.jpg",
    ]
    assert "\u732b" in (output / "\u51fa\u529b/train/annotations.json").read_text(encoding="utf-8")


def test_embedded_images_are_written_out(tmp_path, output):
    write_pair(tmp_path / "in", "a.jpg", [shape("cat", SQUARE)], pixels=picture(seed=3), embedded=True)
    run(tmp_path / "in", output, train_split=1.0)
    assert names_of(output, "train") == ["a.png"]
    assert (np.asarray(Image.open(output / "train/images/a.png")) == picture(seed=3)).all()


def test_images_without_annotation(folder, output):
    Image.fromarray(picture(seed=77)).save(folder / "plain.png")
    Image.fromarray(picture(seed=78)).save(folder / "a plain.png")
    write_pair(folder, "renamed.png", [shape("cat", SQUARE)], imagePath="other name.png")
    (folder / "renamed.png").rename(folder / "other name.png")
    report = run(folder, output)
    assert report.unlabelled_images == ("a plain.png", "plain.png")
    assert len(report.images) == 11
    report = run(folder, output, include_unlabelled=True, overwrite=True)
    assert report.unlabelled_images == ()
    assert [image.key for image in report.images] == sorted(image.key for image in report.images)
    (plain,) = [image for image in report.images if image.source.name == "plain.png"]
    assert plain.instances == ()
    (folder / "broken.png").write_bytes(b"")
    with pytest.raises(DataError, match="broken.png: image 'broken.png' cannot be read"):
        run(folder, output, include_unlabelled=True, overwrite=True)


# --- groups ---


def write_clips(folder: Path) -> Path:
    for clip in range(5):
        for frame in range(4):
            name, pixels = f"clip{clip}_{frame:04d}.png", picture(seed=clip * 10 + frame)
            write_pair(folder / f"day{clip % 2}", name, [shape("cat", SQUARE)], pixels=pixels)
    return folder


@pytest.mark.parametrize(
    ("group_by", "group_of", "num_groups"),
    [
        ("video", lambda name: name[:5], 5),
        (r"(clip\d+)_", lambda name: name[:5], 5),
        ("folder", lambda name: int(name[4]) % 2, 2),
        (r"clip\d", lambda name: name[:5], 5),
    ],
)
def test_images_of_one_group_are_never_on_both_sides(tmp_path, output, group_by, group_of, num_groups):
    folder = write_clips(tmp_path / "in")
    for seed in range(3):
        report = run(folder, output, group_by=group_by, train_split=0.6, seed=seed, overwrite=True)
        train, val = ({group_of(name) for name in names_of(output, split)} for split in ("train", "val"))
        assert train
        assert val
        assert not train & val
        assert report.num_groups == num_groups


def test_without_group_by_frames_are_divided_freely(tmp_path, output):
    report = run(write_clips(tmp_path / "in"), output)
    assert report.num_groups is None
    assert {name[:5] for name in names_of(output, "val")} & {name[:5] for name in names_of(output, "train")}


def test_group_by_that_cannot_work(folder, output):
    with pytest.raises(DataError, match=r"neither 'folder' nor 'video' nor a valid regular expression"):
        run(folder, output, group_by="(")
    with pytest.raises(DataError, match="matches none of the 10 images; the first is 'image_000'"):
        run(folder, output, group_by="clip")
    assert not output.exists()


# --- nothing is overwritten ---


def test_an_existing_dataset_is_replaced_on_request_only(folder, output):
    run(folder, output, seed=0)
    (output / "notes.txt").write_text("mine")
    before = digest_of(output)
    with pytest.raises(DataError, match="is not empty; pass --overwrite"):
        run(folder, output, seed=1)
    assert digest_of(output) == before
    run(folder, output, seed=1, train_split=0.5, overwrite=True)
    assert len(names_of(output, "train")) == 5
    assert sorted(path.name for path in output.iterdir()) == ["notes.txt", "train", "val"]
    assert (output / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("foreign", ["train/images/mine.png", "val/notes.txt", "train/more/deep/file"])
def test_files_of_others_are_never_deleted(folder, output, foreign):
    run(folder, output)
    (output / foreign).parent.mkdir(parents=True, exist_ok=True)
    (output / foreign).write_text("mine")
    before = digest_of(output)
    with pytest.raises(DataError, match=f"also holds {foreign}; move them away"):
        run(folder, output, overwrite=True)
    assert digest_of(output) == before


def test_a_folder_that_this_command_did_not_write_stays(folder, output):
    (output / "train/images").mkdir(parents=True)
    (output / "train/images/a.png").write_text("mine")
    with pytest.raises(DataError, match="also holds train/images/a.png"):
        run(folder, output, overwrite=True)
    assert (output / "train/images/a.png").read_text() == "mine"


def test_empty_folders_are_no_obstacle(folder, output):
    (output / "train/images").mkdir(parents=True)
    run(folder, output)
    assert len(names_of(output, "train")) == 8


def test_a_failure_while_writing_leaves_the_old_dataset(folder, output, monkeypatch):
    run(folder, output)
    before = digest_of(output)

    def full_disk(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(DataError, match="cannot write to .*No space left on device"):
        run(folder, output, seed=3, overwrite=True)
    assert digest_of(output) == before


def test_a_failure_while_moving_into_place_is_undone(folder, output, monkeypatch):
    run(folder, output)
    before, rename, calls = digest_of(output), Path.rename, []

    def fails_at_the_fourth(self, target):
        calls.append(target)
        if len(calls) == 4:
            raise OSError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_at_the_fourth)
    with pytest.raises(DataError, match="Permission denied"):
        run(folder, output, seed=3, overwrite=True)
    assert digest_of(output) == before


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
