"""What lies in the output folder already is never overwritten unasked, and a failure leaves it as it was."""

from pathlib import Path

import pytest

from sam3.errors import DataError
from tests.data.labelme_folder import digest_of, names_of, run


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
