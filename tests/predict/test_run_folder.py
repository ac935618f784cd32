"""What a run remembers: settings, ids, names, finished images."""

import json
import os
from dataclasses import replace

import pytest

from sam3.errors import DataError
from sam3.predict.inputs import ImageFile, list_images
from sam3.predict.run_folder import RunFolder, RunSettings
from tests.predict.conftest import image_result, save_picture


def settings(**changes) -> RunSettings:
    values = {
        "checkpoint": "abc",
        "prompts": {"cat": "cat", "dog": "dog"},
        "score_threshold": 0.5,
        "max_detections": -1,
        "resolution": 112,
        "dtype": "fp32",
    }
    return RunSettings(**(values | changes))


def test_finished_images_are_known_to_the_next_run(photos, tmp_path):
    folder = RunFolder.open(tmp_path / "out", settings())
    first, second, _ = folder.enter(list_images([photos]))
    result = image_result(first.image.path, (40, 30), [])
    folder.store(result)

    again = RunFolder.open(tmp_path / "out", settings())
    entries = again.enter(list_images([photos]))
    assert [entry.image_id for entry in entries] == [1, 2, 3]
    assert again.finished(entries[0]) == result
    assert again.finished(entries[1]) is None
    assert list(again.results()) == [result]


def test_new_images_get_new_ids_and_old_ones_keep_theirs(photos, tmp_path):
    RunFolder.open(tmp_path / "out", settings()).enter(list_images([photos]))
    save_picture(photos / "0_first.png")
    entries = RunFolder.open(tmp_path / "out", settings()).enter(list_images([photos]))
    assert [(entry.name, entry.image_id) for entry in entries] == [("0_first", 4), ("a", 1), ("b", 2), ("c", 3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score_threshold": 0.3}, r"score_threshold: 0\.5 -> 0\.3"),
        ({"prompts": {"cat": "cat"}}, "prompts: "),
        ({"prompts": {"dog": "dog", "cat": "cat"}}, "prompts: "),
        ({"checkpoint": "other"}, 'checkpoint: "abc" -> "other"'),
        ({"dtype": "bf16", "resolution": 224}, "resolution: 112 -> 224; dtype"),
    ],
)
def test_other_settings_are_noticed_and_named(photos, tmp_path, changes, message):
    folder = RunFolder.open(tmp_path, settings())
    entry = folder.enter(list_images([photos]))[0]
    folder.store(image_result(entry.image.path, (40, 30), []))
    with pytest.raises(DataError, match=message):
        RunFolder.open(tmp_path, settings(**changes))

    anew = RunFolder.open(tmp_path, settings(**changes), overwrite=True)
    entry = anew.enter(list_images([photos]))[0]
    assert anew.finished(entry) is None
    assert list(anew.results()) == []


def test_a_changed_image_is_not_finished(photos, tmp_path):
    folder = RunFolder.open(tmp_path, settings())
    entry = folder.enter(list_images([photos]))[0]
    folder.store(image_result(entry.image.path, (40, 30), []))
    assert folder.finished(entry) is not None
    save_picture(entry.image.path, (50, 30))
    os.utime(entry.image.path, (1, 1))
    assert folder.finished(entry) is None


def test_a_half_written_result_is_not_finished(photos, tmp_path):
    folder = RunFolder.open(tmp_path, settings())
    entry = folder.enter(list_images([photos]))[0]
    folder.store(image_result(entry.image.path, (40, 30), []))
    path = tmp_path / "predictions" / "a.json"
    path.write_text(path.read_text()[:20])
    assert folder.finished(entry) is None
    assert list(folder.results()) == []


def test_folders_of_another_origin_are_left_alone(tmp_path):
    (tmp_path / "predictions").mkdir()
    with pytest.raises(DataError, match=r"no run\.json.*--overwrite"):
        RunFolder.open(tmp_path, settings())
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        RunFolder.open(tmp_path / "file", settings())


def test_run_json_tells_what_was_done(photos, tmp_path):
    RunFolder.open(tmp_path, settings()).enter([ImageFile(photos / "a.png", "a.png")])
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["settings"]["prompts"] == {"cat": "cat", "dog": "dog"}
    assert content["images"] == [{"image_id": 1, "name": "a", "source": "photos/a.png"}]


def test_images_and_results_may_be_moved_together(photos, tmp_path):
    place = tmp_path / "project"
    place.mkdir()
    photos.rename(place / "photos")
    folder = RunFolder.open(place / "out", settings())
    entry = folder.enter(list_images([place / "photos"]))[0]
    folder.store(replace(image_result(entry.image.path, (40, 30), []), source="../photos/a.png"))
    place.rename(tmp_path / "elsewhere")
    moved = RunFolder.open(tmp_path / "elsewhere" / "out", settings())
    entries = moved.enter(list_images([tmp_path / "elsewhere" / "photos"]))
    assert [entry.name for entry in entries] == ["a", "b", "c"]
    assert moved.finished(entries[0]) is not None
