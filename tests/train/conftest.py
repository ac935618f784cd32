"""Data of the micro runs, written once a session."""

import logging
from pathlib import Path

import pytest

from tests.data.coco_folder import write_coco_folder
from tests.train.micro import PHRASE


@pytest.fixture(scope="session")
def one_class(tmp_path_factory) -> Path:
    """Six training and three validation images of one class."""
    folder = tmp_path_factory.mktemp("one class 数据")
    return write_coco_folder(folder, images=6, classes=(PHRASE,), val_images=3, size=(64, 48))


@pytest.fixture(scope="session")
def three_classes(tmp_path_factory) -> Path:
    """Six training and three validation images of three classes."""
    return write_coco_folder(tmp_path_factory.mktemp("three"), images=6, val_images=3, size=(64, 48))


@pytest.fixture
def sam3_log(caplog):
    """Messages of the package."""
    caplog.set_level(logging.INFO, logger="sam3")
    return caplog
