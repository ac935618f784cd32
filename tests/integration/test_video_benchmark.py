"""The benchmark of videos runs, and counts every part of a frame's time."""

import pytest

from benchmarks import video


def test_it_prints_every_case_and_part(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "CASES", ((1, 1), (32, 1), (4, 4)))
    before = {(owner, name): getattr(owner, name) for owner, name in video.PARTS}
    video.main(["--frames", "1", "--warm-up", "1"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert [row[:2] for row in rows] == [["1", "1"], ["32", "1"], ["4", "4"]]
    for row in rows:
        assert all(float(value) > 0 for value in row[2:])
        parts = sum(float(value) for value in row[5:])
        assert parts == pytest.approx(float(row[2]), rel=0.1)  # one frame: its parts are the whole
    assert lines[-1].startswith("32 objects take ")
    assert {key: getattr(*key) for key in before} == before
