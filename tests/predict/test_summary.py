"""The end of a run: exit code, words and the list of failures."""

import errno
import json
from collections import Counter

import pytest

from sam3.errors import DataError
from sam3.predict.summary import Summary, raise_if_disk_error, say_interrupted
from sam3.track.run import ClipSummary


@pytest.mark.parametrize(("failed", "codes"), [(0, (0, 0)), (1, (0, 1)), (2, (2, 2))])
def test_exit_codes(failed, codes):
    summary = Summary(2, failures={f"{number}.png": "broken" for number in range(failed)})
    assert (summary.exit_code(is_strict=False), summary.exit_code(is_strict=True)) == codes


def test_what_is_said(tmp_path, capsys):
    failures = {f"{number}.png": f"{number}.png: broken" for number in range(11)} | {"11.png": "no room"}
    counts = Counter({"car": 1, "cat": 2})
    Summary(15, processed=2, skipped=1, objects=counts, failures=failures, seconds=1.25).say(tmp_path, "--score")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 processed, 1 skipped (finished earlier), 12 failed; 3 objects (cat 2, car 1) in 1.2 s"
    assert said[1] == f"results: {tmp_path}"
    assert said[2:12] == [f"warning: not processed: {number}.png: broken" for number in range(10)]
    assert said[12:] == [f"warning: 2 more in {tmp_path / 'failures.json'}"]


def test_frames_of_videos_are_said_and_a_lower_threshold_is_proposed(tmp_path, capsys):
    ClipSummary(2, processed=1, frames=7, failures={"b.mp4": "too short"}).say(tmp_path, "--new-object-score")
    said = capsys.readouterr().out
    assert said.startswith("1 processed (7 frames), 0 skipped (finished earlier), 1 failed; 0 objects in 0.0 s\n")
    assert "would a lower --new-object-score do?" in said
    assert "warning: not processed: b.mp4: too short" in said


def test_failures_are_listed_until_there_are_none(tmp_path):
    Summary(1, failures={"ä.png": "broken"}).write_failures(tmp_path, "image")
    assert json.loads((tmp_path / "failures.json").read_text(encoding="utf-8")) == [
        {"image": "ä.png", "reason": "broken"}
    ]
    Summary(1).write_failures(tmp_path, "image")
    assert not (tmp_path / "failures.json").exists()


def test_a_full_disk_ends_the_run(tmp_path):
    raise_if_disk_error(OSError(errno.EIO, "bad sector"), tmp_path, "images")
    with pytest.raises(DataError, match="No room; finished images are kept, run again to go on"):
        raise_if_disk_error(OSError(errno.ENOSPC, "No room"), tmp_path, "images")


def test_after_ctrl_c(capsys):
    assert say_interrupted("frames") == 130
    assert "finished frames are kept" in capsys.readouterr().err
