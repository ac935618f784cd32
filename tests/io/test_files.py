"""Atomic writes: the old file or the new one, never half of either; JSON that names its file; fingerprints."""

import math
import os

import pytest

from sam3.errors import DataError
from sam3.io import files
from sam3.io.files import atomic_path, fingerprint, parse_json, read_json, remove_partial_files, write_json, write_text


def test_replaces_the_file_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "neu ü" / "a.txt"
    write_text(target, "one")
    write_text(target, "zwei ß")
    assert target.read_text(encoding="utf-8") == "zwei ß"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_permissions_follow_the_umask(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    write_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == plain.stat().st_mode


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"ap": math.nan})
    assert not (tmp_path / "a.json").exists()


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in ("last.pt", ".hidden"):
        (tmp_path / name).touch()
    with atomic_path(tmp_path / "last.pt") as temporary:
        (tmp_path / f"{temporary.name}.copy").touch()  # as if the process had ended here
    remove_partial_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", ".hidden"}
    remove_partial_files(tmp_path / "nowhere")


def test_json_that_cannot_be_read_is_named(tmp_path):
    write_json(tmp_path / "ü.json", {"ä": [1]})
    assert read_json(tmp_path / "ü.json") == {"ä": [1]}
    for content in (b"[", b"\xff", b""):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(DataError, match="bad.json is not valid JSON"):
            read_json(tmp_path / "bad.json")
    with pytest.raises(DataError, match="cannot read .*none.json: No such file"):
        read_json(tmp_path / "none.json")


def test_fingerprints_see_a_change_anywhere_and_ignore_the_name(tmp_path):
    path = tmp_path / "weights.pt"
    content = bytearray(os.urandom(3_000_000))
    path.write_bytes(content)
    before = fingerprint(path)
    path.rename(tmp_path / "renamed.pt")
    assert fingerprint(tmp_path / "renamed.pt") == before
    for place in (0, 1_500_000, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert fingerprint(path) != before
    path.write_bytes(content[:-1])
    assert fingerprint(path) != before
    assert fingerprint(tmp_path) != before


@pytest.mark.parametrize("with_orjson", [True, False])
def test_json_is_the_same_with_and_without_the_fast_reader(monkeypatch, with_orjson):
    if not with_orjson:
        monkeypatch.setattr(files, "orjson", None)
    numbers = [0.1, 1e-320, 5e-324, 1.7976931348623157e308, -(2**63), 2**64 - 1, 0.30000000000000004, 123456.78901]
    assert parse_json(str(numbers)) == numbers
    assert parse_json('{"\u00e4": "\\ud83d\\ude00", "a": 1, "a": 2}') == {"\u00e4": "\U0001f600", "a": 2}
    assert parse_json('["\\ud800", Infinity]') == ["\ud800", math.inf]  # what orjson refuses
    with pytest.raises(ValueError, match="line 1 column 3"):
        parse_json("[1")
