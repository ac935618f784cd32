"""``sam3 doctor`` as it is typed."""

import json
import shutil

import pytest

from sam3.cli import main
from sam3.errors import DataError, UserError
from tests.planning.doctor.planted import CLASSES, PLANTED
from tests.train.micro import MODEL

NAMES = [argument for name in CLASSES for argument in ("--class_name", name)]


def test_a_clean_folder_ends_with_0(folder, capsys):
    folder.save()
    assert main(["doctor", str(folder.path), *NAMES, "--strict"]) == 0
    printed = capsys.readouterr().out
    assert "train 10 images" in printed
    assert printed.strip().endswith("2 info; --fix NEW_FOLDER repairs 0")


def test_errors_end_with_1_and_warnings_only_if_strict(folder, tmp_path, capsys):
    PLANTED["crowd"](folder)
    folder.save()
    assert main(["doctor", str(folder.path)]) == 0
    assert main(["doctor", str(folder.path), "--strict"]) == 1
    PLANTED["image-corrupt"](folder)
    assert main(["doctor", str(folder.path), "--json", str(tmp_path / "found.json")]) == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["counts"] == {"error": 1, "warning": 1, "info": 2}
    first = found["findings"][0]
    assert (first["code"], first["severity"], first["split"], first["fixable"]) == (
        "image-corrupt", "error", "train", True,
    )  # fmt: skip
    assert "error   image-corrupt" in capsys.readouterr().out


def test_the_fixed_copy_is_examined(folder, tmp_path, capsys):
    PLANTED["image-missing"](folder)
    folder.save()
    assert main(["doctor", str(folder.path), "--fix", str(tmp_path / "new"), "--json", str(tmp_path / "f.json")]) == 0
    assert "1 findings repaired" in capsys.readouterr().out
    assert json.loads((tmp_path / "f.json").read_text())["after_fix"]["counts"]["error"] == 0


def test_a_configuration_says_what_is_expected(folder, tmp_path):
    folder.save()
    settings = [*MODEL, f"paths.experiment_log_dir={tmp_path}"]
    multi = ["doctor", str(folder.path), "--config", "train_config_multi_class"]
    assert main([*multi, *settings]) == 0
    assert (
        main(["doctor", str(folder.path), "-c", "train_config_single_class", *settings, "dataset.class_name=cat"]) == 1
    )
    # two objects of one class in an image are more than this run asks for
    assert main([*multi, *settings, "scratch.max_ann_per_img=1", "--strict"]) == 1
    # the data set of the configuration itself
    assert main(["doctor", "-c", "train_config_multi_class", *settings, f"paths.dataset_root='{folder.path}'"]) == 0


def test_one_annotation_file(folder, tmp_path):
    folder.save()
    alone = tmp_path / "somewhere" / "boxes.json"
    alone.parent.mkdir()
    shutil.copy(folder.file("train"), alone)
    assert main(["doctor", str(alone), "--images", str(folder.path / "train" / "images")]) == 0
    assert main(["doctor", str(alone)]) == 1


def test_a_roboflow_export(folder, tmp_path):
    folder.save()
    for split, name in (("train", "train"), ("val", "valid")):
        shutil.copytree(folder.path / split / "images", tmp_path / "export" / name)
        shutil.copy(folder.file(split), tmp_path / "export" / name / "_annotations.coco.json")
    assert main(["doctor", str(tmp_path / "export")]) == 0
    assert main(["doctor", str(tmp_path / "export"), "--fix", str(tmp_path / "new")]) == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["repairs.json", "train", "val"]


def test_wrong_arguments_are_explained(tmp_path):
    with pytest.raises(DataError, match="neither a folder nor a file"):
        main(["doctor", str(tmp_path / "nowhere")])
    with pytest.raises(DataError, match="found nothing"):
        main(["doctor", str(tmp_path)])
    with pytest.raises(UserError, match="needs one DATA"):
        main(["doctor", "--strict"])
