"""User errors become one paragraph and exit code 2; defects keep their traceback."""

import errno

import pytest

from sam3.errors import DataError, listed, run_command


def test_exit_codes(capsys):
    def fail(argv):
        raise DataError("image 'a.png' is empty")

    assert run_command(lambda argv: None) == 0
    assert run_command(lambda argv: 3) == 3
    assert run_command(fail) == 2
    assert capsys.readouterr().err == "error: image 'a.png' is empty\n"


def test_a_full_disk_is_no_defect(capsys):
    def fail(argv):
        raise OSError(errno.ENOSPC, "No space left on device", "a.json")

    assert run_command(fail) == 2
    assert capsys.readouterr().err == f"error: [Errno {errno.ENOSPC}] No space left on device: 'a.json'\n"


def test_long_lists_are_cut():
    assert listed([]) == ""
    assert listed("abc") == "a, b, c"
    assert listed("abcd", limit=2) == "a, b and 2 more"


def test_defects_are_not_hidden():
    def broken(argv):
        raise KeyError("ours")

    with pytest.raises(KeyError):
        run_command(broken)
