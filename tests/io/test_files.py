"""Atomic writes: the old file or the new one, never half of either."""

import math

import pytest

from sam3.io.files import atomic_path, write_json, write_text


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
