from pathlib import Path

import pytest

from sam3.errors import DataError
from sam3.io.journal import Journal, read_journal

HEADER = {"weights": "ä", "size": [1, 2]}


def written(path: Path, *entries: object) -> Path:
    journal = Journal(path, HEADER)
    for entry in entries:
        journal.append(entry)
    journal.close()
    return path


def test_entries_come_back_in_order_and_more_can_follow(tmp_path: Path):
    path = written(tmp_path / "new" / "j.jsonl", {"a": 1}, [2, "ü"])
    assert list(read_journal(path, HEADER)) == [{"a": 1}, [2, "ü"]]
    written(path, 3)
    assert list(read_journal(path, HEADER)) == [{"a": 1}, [2, "ü"], 3]


@pytest.mark.parametrize("kept", range(1, 8))
def test_a_torn_line_counts_as_not_written(tmp_path: Path, kept: int):
    path = written(tmp_path / "j.jsonl", 1, "torn entry " + "x" * 100_000)
    whole = path.read_bytes()
    first = whole.index(b"\n1\n") + 3
    path.write_bytes(whole[: first + kept * 10_000])
    assert list(read_journal(path, HEADER)) == [1]
    written(path, 2)
    assert list(read_journal(path, HEADER)) == [1, 2]


def test_nothing_but_half_a_header(tmp_path: Path):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"weights"')
    assert list(read_journal(path, HEADER)) == []
    written(path, 5)
    assert list(read_journal(path, HEADER)) == [5]


def test_entries_of_other_settings_are_refused(tmp_path: Path):
    path = written(tmp_path / "j.jsonl", 1)
    with pytest.raises(DataError, match=r"begun with other settings: size: \[1, 2\] -> \[3\]"):
        list(read_journal(path, HEADER | {"size": [3]}))


def test_damage_inside_is_named(tmp_path: Path):
    path = written(tmp_path / "j.jsonl", 1, 2)
    path.write_bytes(path.read_bytes().replace(b"\n1\n", b"\n{\n"))
    with pytest.raises(DataError, match="line 2 is damaged"):
        list(read_journal(path, HEADER))
