"""Which folders can be converted, which files of them are taken, under which names, and what belongs together."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3.errors import DataError
from tests.data.labelme_folder import SQUARE, names_of, picture, run, shape, write_labelme_folder, write_pair

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
