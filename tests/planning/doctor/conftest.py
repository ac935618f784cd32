"""Damaged folders."""

from pathlib import Path

import pytest

from tests.planning.doctor.planted import Folder, write_clean


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> dict[int, Path]:
    """Number of training pictures -> a folder; written once, nobody changes it."""
    return {images: write_clean(tmp_path_factory.mktemp("clean") / "data", images) for images in (10, 45)}


@pytest.fixture
def folder(tmp_path: Path, clean: dict[int, Path]) -> Folder:
    """A clean data set with spaces and letters beyond ASCII in its path."""
    return Folder(tmp_path / "my data 数据", clean[10])


@pytest.fixture
def large_folder(tmp_path: Path, clean: dict[int, Path]) -> Folder:
    """Pictures enough for all defects at once."""
    return Folder(tmp_path / "large", clean[45])
