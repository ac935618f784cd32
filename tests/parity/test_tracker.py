from pathlib import Path

from tests.parity import tracker


def test_the_tracker_gives_the_recorded_numbers(shared: Path):
    rows = tracker.compare(shared / "golden" / "tracker")
    assert len(rows) > 70
    assert [row for row in rows if not row.ok] == []
