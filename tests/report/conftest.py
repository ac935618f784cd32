"""A finished micro run on three classes, once a session."""

import pytest

from tests.data.coco_folder import write_coco_folder
from tests.train.conftest import one_class, sam3_log  # noqa: F401
from tests.train.micro import MULTI, train


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of the run; its data set is called 数据 & <co>."""
    folder = tmp_path_factory.mktemp("report")
    data = write_coco_folder(folder / "数据 & <co>", images=6, val_images=5, size=(64, 48))
    return train(
        data, folder / "run", "scratch.max_epochs=2", "checkpoint.score_threshold=0.1", config=MULTI, class_name=None
    )
