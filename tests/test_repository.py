"""What every checkout must keep."""

from pathlib import Path


def test_the_recorded_numbers_stay_small(repository: Path):
    size = sum(path.stat().st_size for path in (repository / "tests" / "golden").rglob("*") if path.is_file())
    assert size <= 4_000_000
