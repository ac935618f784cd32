"""What the tests of the Labelme conversion share: a folder to convert, and where the result goes."""

from pathlib import Path

import pytest

from tests.data.labelme_folder import write_labelme_folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_labelme_folder(tmp_path / "in", num_images=8, num_negatives=2)


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"
